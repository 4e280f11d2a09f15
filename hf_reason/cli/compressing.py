"""What `prune` and `quantize` have in common: stages that are resumed, the gate, the report, the card.

Everything is made in `<output_dir>.partial`; a model that passes the gate becomes `output_dir`, one that does not
becomes `<output_dir>-refused`.
"""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically
from hf_reason.compression.gate import Measured
from hf_reason.compression.older_readers import write_for_older_readers
from hf_reason.data.output_folder import check_output_apart, check_output_dir, hold, in_turn

from .compression_arguments import CompressionArguments
from .compression_cache import measured_file, model_digest, read_measured, write_measured
from .compression_folders import REPORT, is_compressed, refused_folder, same_or_refuse, work_folder
from .errors import on_interrupt
from .publishing import check_can_push, push_if_asked


@dataclass
class Compression:
    """A compression under way.

    Attributes:
        command: `prune` or `quantize`.
        args: Its arguments.
        tokenizer: The model's.
        instructions: Template of each domain.
        train: Records for calibration and recovery.
        test: Records of the gate.
    """

    command: str
    args: CompressionArguments
    tokenizer: Any
    instructions: dict[str, str]
    train: Any
    test: Any

    @property
    def work(self) -> Path:
        """Where the stages are kept."""
        return work_folder(self.args)

    @property
    def made(self) -> Path:
        """The compressed model."""
        return self.work / "model"

    @classmethod
    def begin(cls, command: str, args: CompressionArguments) -> "Compression | None":
        """Check the folders, and load what all stages need; `None` if the compression is finished (which is said).

        Raises:
            ValueError: if the folder holds something else, or model or data cannot be read.
        """
        from hf_reason.cli.inputs.compression_data import load_problems
        from hf_reason.cli.inputs.inference import check_for_inference, tokenizer_of
        from hf_reason.text import load_instructions, saved_instructions

        check_output_dir(args.output_dir)
        check_output_apart(args.output_dir, args.dataset_name or [], [args.model_name_or_path])
        check_can_push(args)
        if is_compressed(args):
            push_if_asked(args)
            return None
        check_for_inference(args.model_name_or_path, args)  # type: ignore[arg-type]
        hold(work_folder(args))
        same_or_refuse(command, args)
        on_interrupt(lambda: f"The same command resumes from the stages in {work_folder(args)}.")
        given = args.instructions
        return cls(
            command,
            args,
            tokenizer_of(args.model_name_or_path, args),  # type: ignore[arg-type]
            saved_instructions(args.model_name_or_path) if given is None else load_instructions(given),
            *load_problems(args),
        )

    def load(self, name: str | None = None) -> Any:
        """The model before the compression, an adapter merged, without its LoAR; or the one in the folder `name`.

        Raises:
            ValueError: if its adapter cannot be merged.
        """
        from peft import PeftModel

        from hf_reason.cli.inputs.inference import load_for_inference
        from hf_reason.models.loar.model import loar_of

        place = name or self.args.model_name_or_path
        model, _ = load_for_inference(place, self.args)  # type: ignore[arg-type]
        loar = loar_of(model)
        if loar is not None:
            loar.unload()
        if not isinstance(model, PeftModel):
            return model
        if any(config.is_prompt_learning for config in model.peft_config.values()):
            raise ValueError(f"{place} is an adapter of virtual tokens, which cannot be merged: compress its base.")
        return model.merge_and_unload()

    @property
    def cache(self) -> Path:
        """Where figures and chains are kept."""
        return Path(self.args.cache_dir) if self.args.cache_dir else self.work

    def measured(self, name: str) -> Measured:
        """The figures of the model `name` on the gate's records; those that were measured before, if there are any."""
        from hf_reason.text.render import template_hash

        template = template_hash(self.tokenizer, self.instructions)
        path = measured_file(self.cache, name, self.test, template, self.args)
        with in_turn(path):
            return read_measured(path) or self._measured(name, path)

    def _measured(self, name: str, path: Path) -> Measured:
        from hf_reason.cli.inputs.inference import load_for_inference
        from hf_reason.compression.measure_model import measure

        print(f"Measuring {name} on {len(self.test)} records.", flush=True)
        model, _ = load_for_inference(name, self.args)  # type: ignore[arg-type]
        found = measure(
            model,
            self.tokenizer,
            list(self.test),
            folder=name,
            instructions=self.instructions,
            max_completion_length=self.args.max_completion_length,
            batch_size=self.args.batch_size,
            thinking=self.args.thinking,
            seed=self.args.seed,
        )
        write_measured(path, found)
        return found

    def calibration(self, model: Any, kind: str | None = None) -> Any:
        """The texts to calibrate on, as the arguments say, or of the kind that is given."""
        from hf_reason.compression import calibration as kinds

        args, count = self.args, self.args.calibration_records
        kind = kind or args.calibration
        options: Any = {"instructions": self.instructions, "seed": args.seed}
        if kind == "self":
            found = kinds.own_chains(
                model,
                self.tokenizer,
                list(self.train),
                count,
                # the file itself says for which problems and settings it is
                path=self.cache / f"chains-{model_digest(args.model_name_or_path)}.jsonl",
                batch_size=args.batch_size,
                max_completion_length=args.calibration_max_length,
                progress=self.progress("own chains"),
                **options,
            )
        elif kind == "traces":
            found = kinds.reference_chains(
                list(self.train), self.tokenizer, count, max_length=args.calibration_max_length, **options
            )
        else:
            found = kinds.text_windows(kind, self.tokenizer, count, max_length=args.calibration_max_length)
        print(f"{str(found).capitalize()}.", flush=True)
        return found

    def recovery_data(self, model: Any, kind: str | None) -> Any:
        """What a compressed model recovers on: the records' chains, or those that the whole `model` itself writes.

        Args:
            model: The model before the compression.
            kind: `traces` or `self`; `None`: traces, where the records have chains.
        """
        from datasets import Dataset

        if kind == "traces" or (kind is None and any(self.train["steps"])):
            return self.train
        return Dataset.from_list(self.calibration(model, "self").training_rows(self.tokenizer))

    @property
    def calibration_kind(self) -> str:
        """What the card says: never the path of a file."""
        return self.args.calibration if self.args.calibration in ("self", "traces") else "text"

    def progress(self, what: str) -> Callable[[Any], Any]:
        """A bar for a loop, on a terminal."""
        from tqdm.auto import tqdm

        return lambda items: tqdm(items, desc=what, disable=not sys.stderr.isatty())

    def save(self, write: Callable[[Path], None], folder: Path | None = None) -> None:
        """Write a model with its tokenizer and templates; the folder is there whole or not at all."""
        from hf_reason.models.loar import has_loar
        from hf_reason.models.loar.configuration import LoARConfig
        from hf_reason.text.instructions import save_instructions

        target = folder or self.made
        half = target.with_name(f"{target.name}.tmp")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        write(half)
        self.tokenizer.save_pretrained(half)
        write_for_older_readers(half)
        if self.instructions:
            save_instructions(half, self.instructions)
        source = self.args.model_name_or_path
        if has_loar(source):
            from hf_reason.models.loar.files import CONFIG_FILE, WEIGHTS_FILE, find_file

            LoARConfig.from_pretrained(source)  # readable
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                shutil.copy(str(find_file(source, name, None)), half / name)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(half, target)

    def finish(self, settings: Mapping[str, Any], between: Any = None) -> None:
        """Measure the compressed model, compare, write report and card, and give the folder its name.

        Args:
            settings: What the card shows; settings that are `None` are left out.
            between: The figures of the model before its recovery, if it had one.

        Raises:
            GateError: if the model lost more than is allowed; it stays in `<output_dir>-refused`.
        """
        from hf_reason.compression.gate import check, compare, format_comparison, table, verdict
        from hf_reason.evaluation import save_report
        from hf_reason.evaluation.model_card.build import build_model_card

        args = self.args
        before, after = self.measured(args.model_name_or_path), self.measured(str(self.made))
        found = compare(before, after, max_drop=args.max_drop, min_close_rate=args.min_close_rate, between=between)
        name = Path(args.output_dir).name
        target = Path(args.output_dir) if found.passed else refused_folder(args)
        shown = {key: value for key, value in settings.items() if value is not None}
        write_json_atomically(self.made / REPORT, {"command": self.command, "settings": shown, **found.to_dict()})
        written = save_report(after.result, self.made / "evaluation")
        card = build_model_card(
            model_name=name,
            base_model=args.model_name_or_path,
            settings=shown,
            results=after.result,
            plots=[path.relative_to(self.made).as_posix() for path in written.values() if path.suffix == ".png"],
            compression={"rows": table(found, ("before", "after")), "notes": verdict(found)},
        )
        (self.made / "README.md").write_text(card, encoding="utf-8")
        print(format_comparison(found, (Path(args.model_name_or_path).name, name)))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(self.made, target)
        shutil.rmtree(self.work, ignore_errors=True)
        check(found, str(target))
        print(f"Model, report and card: {target}")
        push_if_asked(args)
