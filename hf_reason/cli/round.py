"""A round of continual learning around a training run: measured before and after, guarded, and only then published."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._files import write_json_atomically
from hf_reason.cli.inputs.datasets import Splits, first, first_of_each, load_records
from hf_reason.cli.inputs.models import check_model_name
from hf_reason.cli.inputs.round_data import RoundData, load_round_data
from hf_reason.data.replay import ReplayMix, mix_replay
from hf_reason.evaluation import EvaluationResult, evaluate_model
from hf_reason.evaluation.forgetting import Round, check_drops, format_history, load_history, round_from, save_history
from hf_reason.text import saved_instructions

from .arguments import ContinualArguments, DataArguments
from .finish import push_folder, repository_of
from .generation_arguments import EvaluationArguments
from .pushing import pushing
from .resume import mark, was_pushed
from .round_modes import OtherMode, mode_name, other_before
from .runner import TrainingRun

if TYPE_CHECKING:
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

BEFORE_FILE = "before.json"


class ContinualRound:
    """What a further round adds to a training run.

    Nothing is pushed before the guard has looked at it, neither checkpoints nor the saved model: `args.push_to_hub`
    is switched off here, and the round pushes itself.

    Args:
        round_args: The round's own arguments.
        data: The new records.
        args: The training arguments.
        model_args: The finished model.

    Raises:
        ValueError: if there is no finished model, or no new records.
    """

    def __init__(
        self, round_args: ContinualArguments, data: DataArguments, args: "CoTSFTConfig", model_args: "ModelConfig"
    ) -> None:
        if model_args.model_name_or_path is None:
            raise ValueError("There is no finished model. Give model_name_or_path.")
        if not data.dataset_name:
            raise ValueError(
                "There are no new records. Give dataset_name: a prepared folder, raw files or a Hub name."
            )
        check_model_name(model_args.model_name_or_path)
        self.arguments, self._data, self._args = round_args, data, args
        self.source = model_args.model_name_or_path
        self.instructions = {} if data.instructions else saved_instructions(self.source)
        self.publish, args.push_to_hub = args.push_to_hub, False
        self.old_domains: tuple[str, ...] = ()
        self.mix: ReplayMix | None = None
        self._other: OtherMode | None = None

    def load(self, data: DataArguments, evaluation: EvaluationArguments, args: "CoTSFTConfig") -> Splits:
        """New records with old ones among them, and the tests of both (for `begin`)."""
        from datasets import concatenate_datasets

        found = self._find()
        new = first(found.new, data.max_train_records)
        tests = (found.new_test, found.old_test)
        self.mix = mix_replay(new, found.old, self.arguments.replay_ratio, tests=tests, seed=args.seed)
        if args.process_index == 0:
            print(self.mix)
            for domain, count in self.mix.new.items():
                if count < self.arguments.min_learned_records:
                    print(
                        f"Note: {domain} has {count} new training records, too few to count as learned "
                        f"(min_learned_records={self.arguments.min_learned_records}).",
                        file=sys.stderr,
                    )
        validation = None
        if args.eval_strategy != "no":
            validation = load_records(found.places, "validation", data.domain)
        # of each domain, so that none goes unmeasured
        limited = [first_of_each(split, evaluation.max_test_records) for split in (found.old_test, found.new_test)]
        return Splits(self.mix.records, validation, concatenate_datasets(limited), found.places)

    def _find(self) -> RoundData:
        found = load_round_data(self._data, self.arguments, self._args)
        self.old_domains = found.old_domains
        return found

    def check_finished(self) -> None:
        """The guard on a round that is finished; one that passes is pushed if it was asked for and refused before.

        Raises:
            ForgettingError: if an old domain lost more than `max_drop` points.
        """
        output = str(self._args.output_dir)
        self._find()
        self._guard(output)
        if self.publish and self._args.process_index == 0 and not was_pushed(output):
            _note_local_base(output)
            push_folder(self._args)

    def measure_before(self, run: TrainingRun, trainer: "CoTSFTTrainer") -> None:
        """Evaluate the model on old and new domains before anything is trained; a resumed run reads the file."""
        self._other = OtherMode(run, trainer)
        self._other.measure_before()
        path = Path(str(self._args.output_dir), BEFORE_FILE)
        if path.is_file():
            return
        assert run.splits.test is not None
        results = evaluate_model(
            trainer.accelerator.unwrap_model(trainer.model),  # type: ignore[arg-type]
            trainer.processing_class,  # type: ignore[arg-type]
            list(run.splits.test),
            seed=self._args.seed,
            instructions=run.instructions,
            **run.evaluation.generation(run.data.thinking),
            **run.evaluation.sampling(),
        )
        if trainer.is_world_process_zero():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json_atomically(path, results.to_dict())

    def report(self, trainer: "CoTSFTTrainer", results: EvaluationResult) -> None:
        """Write and print the history, apply the guard, and push the model if it passes and was asked for.

        Raises:
            ForgettingError: if an old domain lost more than `max_drop` points.
        """
        output = str(self._args.output_dir)
        assert self.mix is not None and self._other is not None
        other = self._other.measure_after()
        if trainer.is_world_process_zero():
            past = load_history(self.source) if os.path.isdir(self.source) else []
            if not past:
                past = [self._before(output, Path(self.source).name)]
            before = {domain for entry in past for domain in entry.learned}
            enough = {name for name, count in self.mix.new.items() if count >= self.arguments.min_learned_records}
            rounds = [*past, round_from(Path(output).name, enough - before, results, other)]
            save_history(output, rounds)
            print(format_history(rounds))
        trainer.accelerator.wait_for_everyone()
        self._guard(output)
        if self.publish:
            if trainer.is_world_process_zero():
                _note_local_base(output)
            trainer.args.push_to_hub = True
            with pushing(output, repository_of(self._args)):
                trainer.push_to_hub()
            if trainer.is_world_process_zero():
                mark(output, pushed=True)

    def _guard(self, output: str) -> None:
        limit, other = self.arguments.max_drop, mode_name(not self._data.thinking)
        check_drops(self._before(output, "before"), load_history(output)[-1], self.old_domains, limit, other)

    def _before(self, output: str, name: str) -> Round:
        return round_from(name, self.old_domains, _before(output), other_before(output))


def _before(output: str) -> EvaluationResult:
    content: Any = json.loads(Path(output, BEFORE_FILE).read_text(encoding="utf-8"))
    return EvaluationResult.from_dict(content)


def _note_local_base(output: str | Path) -> None:
    """Say so if an adapter that is published belongs to a base that nobody else has."""
    path = Path(output, "adapter_config.json")
    base = json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"] if path.is_file() else None
    if base and os.path.isdir(base):
        print(
            f"Note: the published adapter belongs to the base {base}, a folder of this machine. Others need it, too: "
            "publish it and write its name into adapter_config.json, or train with adapter='none'.",
            file=sys.stderr,
        )
