"""The path of `compress`: which stages are finished, which is next, and what stops it.

Stages are made in `<output_dir>-stages`, a folder for each; the last one is copied to `output_dir`.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from hf_reason._files import write_json_atomically
from hf_reason.cli import errors
from hf_reason.cli.compression_arguments import CompressionArguments
from hf_reason.cli.errors import on_interrupt
from hf_reason.cli.publishing import check_can_push, push_if_asked
from hf_reason.cli.resume import is_finished, refuse_without_weights
from hf_reason.data.output_folder import check_output_apart, check_output_dir

from .measuring import FIGURES, known_figures, settings_of
from .process import MEASURE, only_one, run_stage
from .result import REPORT, Column, print_table, read_report, write_result
from .sections import Stage, write_section

_RECORD = "path.json"


class StageStopped(Exception):
    """A stage ended with another code than 0, and has said why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class CompressionPath:
    """A path under way.

    Args:
        args: What is common to all stages, and where the path begins and ends.
        stages: What is to be done, in order.
    """

    def __init__(self, args: CompressionArguments, stages: list[Stage]) -> None:
        self.args, self.stages = args, stages
        self.output = Path(args.output_dir)
        self.folder = Path(f"{args.output_dir.rstrip('/')}-stages")
        self.columns: list[Column] = []
        self.record: dict[str, Any] = {}

    def run(self) -> int:
        """Make what is not finished.

        Returns:
            The exit code: that of the stage that stopped the path, or 0.

        Raises:
            ValueError: if the folders hold something else, or finished stages of other settings.
            GateError: if a model stays refused.
        """
        teacher = self._teacher()
        check_output_dir(self.args.output_dir)
        for folder in (self.args.output_dir, str(self.folder)):
            check_output_apart(folder, self.args.dataset_name or [], [self.args.model_name_or_path])
        check_can_push(self.args)
        if read_report(self.output).get("command") == "compress":
            push_if_asked(self.args)
            print(f"{self.output} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
            return errors.DONE
        if self.output.is_dir() and any(self.output.iterdir()):
            raise ValueError(f"output_dir {self.output} has files of something else. Choose another output_dir.")
        with only_one(self.folder) as lock:
            on_interrupt(self._state)
            self.record = self._read_record()
            self._check_finished()
            try:
                self._measured("teacher", teacher, lock)
                for number, stage in enumerate(self.stages, start=1):
                    self._stage(number, stage, lock)
            except StageStopped as stopped:
                return stopped.code
            write_result(self.args, self.stages, self.columns, self.folder, self.output)
        push_if_asked(self.args)
        return errors.DONE

    def _teacher(self) -> str | None:
        """The teacher's model; `None` if only a server has it.

        Raises:
            ValueError: if there is none that the path can begin with.
        """
        from hf_reason.teachers import TeacherSource
        from hf_reason.teachers.cache_format import read_meta

        source = TeacherSource.parse(self.args.model_name_or_path)
        if source.kind == "model":
            return str(source.value)
        if source.kind == "self" or self.stages[0].name != "distill":
            raise ValueError(
                f"teacher_model_name_or_path {self.args.model_name_or_path} is no model that can become smaller: give "
                "a model's folder or Hub name. A distillation may have another teacher in its section."
            )
        if source.kind == "cache":
            return str(read_meta(Path(source.value))["teacher_model_name_or_path"])
        print("The teacher is a server: its figures are not measured.", flush=True)
        return None

    def _place(self, stage: Stage) -> Path:
        return self.folder / stage.name

    def _beside(self, stage: Stage, suffix: str) -> Path:
        return self.folder / f"{stage.name}{suffix}"

    def _is_made(self, stage: Stage) -> bool:
        place = self._place(stage)
        if stage.name == "distill":
            return is_finished(str(place))
        return (place / REPORT).is_file()

    def _read_record(self) -> dict[str, Any]:
        path = self.folder / _RECORD
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for stage in self.stages:
            if not self._is_made(stage):
                found.get(stage.name, {}).pop("made", None)
        return found

    def _keep(self, stage: Stage, **values: Any) -> None:
        self.record[stage.name] = {**self.record.get(stage.name, {}), **values}
        write_json_atomically(self.folder / _RECORD, self.record)

    def _source(self, number: int) -> Any:
        """What a stage reads: the teacher's name, or which making of the stage before."""
        if number == 1:
            return self.args.model_name_or_path
        before = self.stages[number - 2].name
        return [before, self.record.get(before, {}).get("made")]

    def _check_finished(self) -> None:
        """Refuse finished stages that were made with other settings, or of another model.

        Raises:
            ValueError: naming them, and what to remove.
        """
        for number, stage in enumerate(self.stages, start=1):
            if not self._is_made(stage):
                continue
            known = self.record.get(stage.name, {})
            if "made" not in known:  # the path was killed before it took note
                self._keep(stage, made=time.time_ns())
                known = self.record[stage.name]
            others = [str(self._place(other)) for other in self.stages[number - 1 :] if self._place(other).exists()]
            remove = f"remove {' and '.join(others)} to make {'it' if len(others) == 1 else 'them'} again"
            old = known.get("shaping", stage.shaping)
            # an option that only another version of the command has did not shape it
            changed = [name for name, value in stage.shaping.items() if name in old and old[name] != value]
            if changed:
                then = ", ".join(f"{name} {old.get(name)}" for name in changed)
                now = ", ".join(f"{stage.shaping.get(name)}" for name in changed)
                raise ValueError(
                    f"{self._place(stage)} was made with {then}, not {now}. Use the same settings, another "
                    f"output_dir, or {remove}."
                )
            if known.get("source", self._source(number)) != self._source(number):
                raise ValueError(
                    f"{self._place(stage)} was made of another model than the one before it now: {remove}, or use "
                    "another output_dir."
                )

    def _measured(self, name: str, model: str | None, lock: TextIO) -> None:
        """Add the column of a model that no gate has measured; its figures are kept for the gate of the next stage."""
        if model is None:
            return
        place, settings = self.folder / f"{name}-figures", settings_of(self.args, model)
        # a student that was made again has other figures
        settings |= {"made": self.record.get(name, {}).get("made")}
        if known_figures(place, settings) is None:
            shutil.rmtree(place, ignore_errors=True)
            arguments = {key: getattr(self.args, key) for key in settings if key not in ("made", "model_name_or_path")}
            arguments |= {"batch_size": self.args.batch_size, "use_cpu": self.args.use_cpu}
            arguments |= {"trust_remote_code": self.args.trust_remote_code, "cache_dir": self._cache}
            arguments |= {"model_name_or_path": model, "output_dir": str(self.folder / f"{name}-measuring")}
            file = self.folder / f"{name}-measuring.json"
            write_json_atomically(file, {"arguments": arguments, "folder": str(place), "settings": settings})
            self._run([MEASURE, str(file)], f"measuring {name}", "", lock)
            file.unlink(missing_ok=True)
        figures = json.loads((place / FIGURES).read_text(encoding="utf-8"))["figures"]
        self.columns.append(Column(name, figures, place))

    @property
    def _cache(self) -> str:
        return self.args.cache_dir or str(self.folder / "figures")

    def _stage(self, number: int, stage: Stage, lock: TextIO) -> None:
        """Make a stage if it is not made, and show the table so far."""
        title = f"{stage.name} (stage {number} of {len(self.stages)})"
        place = self._place(stage)
        if self._is_made(stage):
            refuse_without_weights(str(place))
            print(f"{title}: finished before.", flush=True)
        else:
            self._drop_or_judge_again(number, stage, title)
            source = str(self._place(self.stages[number - 2])) if number > 1 else self.args.model_name_or_path
            reads = {} if stage.name == "distill" else {"model_name_or_path": source, "cache_dir": self._cache}
            file = self._beside(stage, ".yaml")
            write_section(stage, file, output_dir=str(place), **reads)
            self._keep(stage, shaping=stage.shaping, limits=stage.limits, source=self._source(number))
            print(f"{title}: {source} -> {place}", flush=True)
            hint = (
                f"Finished: {self._finished() or 'nothing yet'}. Options of this stage belong into the section "
                f"{stage.name} (or --{stage.name}.NAME VALUE); the same command continues here."
            )
            self._run([stage.name, "--config", str(file), *stage.words], title, hint, lock)
            self._keep(stage, made=time.time_ns())
        for suffix in (".partial", "-refused"):  # of a process that was killed when all was done
            shutil.rmtree(self._beside(stage, suffix), ignore_errors=True)
        if stage.name == "distill":
            self._measured("distill", str(place), lock)
        else:
            self.columns.append(Column(stage.name, read_report(place)["after"], place))
        print_table(self.columns)

    def _drop_or_judge_again(self, number: int, stage: Stage, title: str) -> None:
        """What an earlier run has left: of other settings it goes, a refused model is judged by the limits of now.

        Raises:
            GateError: if a model was refused with these settings and limits.
        """
        known, refused = self.record.get(stage.name, {}), self._beside(stage, "-refused")
        partial = self._beside(stage, ".partial")
        same_model = known.get("source", self._source(number)) == self._source(number)
        if not same_model:  # what was begun before belongs to a model that is gone
            shutil.rmtree(partial, ignore_errors=True)
            if stage.name == "distill":
                return
        if not (refused / REPORT).is_file():
            return
        if not same_model or known.get("shaping") != stage.shaping:
            print(f"{refused} was made with other settings and is replaced.", flush=True)
            shutil.rmtree(refused)
        elif known.get("limits") != stage.limits:
            print(f"{refused} is judged by the limits of now.", flush=True)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            os.replace(refused, partial / "model")
        else:
            from hf_reason.compression import GateError

            raise GateError(
                f"{title}: the model in {refused} is refused: {'; '.join(read_report(refused)['failures'])}. Change "
                f"the section {stage.name} (compress less, more recover_steps, or max_drop) and run the command "
                f"again. Finished: {self._finished() or 'nothing yet'}."
            )

    def _run(self, words: list[str], title: str, hint: str, lock: TextIO) -> None:
        code = run_stage(words, lock, title, hint)
        if code == errors.DONE:
            return
        if code == errors.INTERRUPTED:
            raise KeyboardInterrupt
        if code not in (errors.UNUSABLE, errors.REFUSED):
            what = f"was ended by signal {code - 128}" if code > 128 else f"ended with code {code}"
            about = " (is there too little memory?)" if code == 128 + 9 else ""
            rest = hint or "The same command continues here."
            print(f"Error: {title} {what}{about}. {rest}", file=sys.stderr, flush=True)
        raise StageStopped(code)

    def _finished(self) -> str:
        return ", ".join(stage.name for stage in self.stages if self._is_made(stage))

    def _state(self) -> str:
        """What Ctrl-C says."""
        following = next((stage.name for stage in self.stages if not self._is_made(stage)), "the report")
        return f"Finished: {self._finished() or 'nothing yet'}. The same command continues with {following}."
