"""One runner for all training commands: what comes before the trainer is built, and what follows."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hf_reason.cli.inputs.datasets import Splits, as_trained, load_splits
from hf_reason.data.output_folder import check_output_apart, check_output_dir, hold
from hf_reason.text import load_instructions
from hf_reason.trainers.resuming import train_or_resume

from .arguments import DataArguments, as_list
from .card_settings import card_settings
from .errors import on_interrupt, training_state
from .finish import finish, generation_eval, push_folder
from .generation_arguments import EvaluationArguments
from .resume import (
    is_finished,
    refuse_more,
    refuse_without_weights,
    same_records_or_refuse,
    same_settings_or_refuse,
    was_pushed,
)
from .start import check_dropped, start_line, warnings_about, warnings_about_offload, warnings_about_weights

if TYPE_CHECKING:
    from hf_reason.evaluation import EvaluationResult
    from hf_reason.trainers import CoTSFTTrainer, StepGRPOTrainer

_T = TypeVar("_T")
# Arguments that name what a run reads.
_DATA = ("dataset_name", "old_dataset")
_MODELS = ("model_name_or_path", "teacher_model_name_or_path")


@dataclass
class TrainingRun:
    """A run that is to be trained: `begin` makes it, then come the model and the trainer, `train` and `finish`.

    Attributes:
        groups: All argument classes of the command.
        splits: The records.
        instructions: Template of each domain.
    """

    groups: tuple[Any, ...]
    splits: Splits
    instructions: dict[str, str]

    @property
    def data(self) -> DataArguments:
        """What the run reads."""
        return group_of(self.groups, DataArguments)

    @property
    def evaluation(self) -> EvaluationArguments:
        """How it evaluates."""
        return group_of(self.groups, EvaluationArguments)

    @property
    def args(self) -> Any:
        """How it trains."""
        return training_args(self.groups)

    def inputs(self, tokenizer: Any) -> dict[str, Any]:
        """What every trainer of the project is built from, except its model."""
        thinking, validation = self.data.thinking, self.splits.validation
        return {
            "args": self.args,
            "train_dataset": as_trained(self.splits.train, thinking),
            "eval_dataset": as_trained(validation, thinking),
            "processing_class": tokenizer,
            "instructions": self.instructions,
            "generation_eval": None
            if validation is None
            else generation_eval(validation, tokenizer, self.evaluation, thinking, self.instructions),
        }

    def train(self, trainer: "CoTSFTTrainer | StepGRPOTrainer", start: str | None = None) -> None:
        """Say what is trained on what, and train, from the last checkpoint if there is one.

        Args:
            trainer: Of this run.
            start: What is said. Default: the line of a trainer on records.

        Raises:
            ValueError: if `max_length` drops more of the records than `max_dropped_ratio` allows.
        """
        if start is None:
            check_dropped(trainer, self.data.max_dropped_ratio)  # type: ignore[arg-type]
            start = start_line(trainer, self.splits, self.instructions)  # type: ignore[arg-type]
        if trainer.is_world_process_zero():
            print(start, flush=True)
            fits = warnings_about(trainer.processing_class, self.splits.train)
            for warning in [*fits, *warnings_about_weights(trainer), *warnings_about_offload(trainer)]:
                print(f"Warning: {warning}", file=sys.stderr)
        train_or_resume(trainer)

    def finish(self, trainer: "CoTSFTTrainer | StepGRPOTrainer", base_model: str | None) -> "EvaluationResult | None":
        """Save, evaluate on the test records, write report and card, push if asked to; see `cli.finish`."""
        return finish(
            trainer,
            self.splits.test,
            self.evaluation,
            replace(self.data, dataset_name=self.splits.places),
            settings=card_settings(self.groups, trainer),
            base_model=base_model,
        )

    def question(self) -> dict[str, Any] | None:
        """A test record to show what the model does: the first in the language of most training records."""
        test = self.splits.test
        if test is None or not len(test):
            return None
        language = Counter(self.splits.train["language"]).most_common(1)[0][0]
        return next((record for record in test if record["language"] == language), test[0])


def group_of(groups: tuple[Any, ...], cls: type[_T]) -> _T:
    """The instance of an argument class among those of a command."""
    return next(group for group in groups if isinstance(group, cls))


def named(groups: tuple[Any, ...], arguments: Sequence[str]) -> list[str]:
    """The folders, files and Hub names that some arguments of a command give."""
    values = [getattr(group, argument, None) for group in groups for argument in arguments]
    # teachers by domain are a mapping
    return [name for value in values for name in as_list(list(value.values()) if isinstance(value, dict) else value)]


def training_args(groups: tuple[Any, ...]) -> Any:
    """The training arguments among the classes of a command: a `CoTSFTConfig` or `StepGRPOConfig`."""
    from transformers import TrainingArguments

    return group_of(groups, TrainingArguments)


def begin(
    groups: tuple[Any, ...],
    load: Callable[..., Splits] = load_splits,
    *,
    instructions: Mapping[str, str] | None = None,
    when_finished: Callable[[], None] | None = None,
) -> TrainingRun | None:
    """Check the launch and the output folder, and load the records.

    Args:
        groups: The command's parsed dataclasses: `DataArguments`, `EvaluationArguments`, the training arguments and
            whatever else shapes the run.
        load: Gives the records: `load(data, evaluation, args)`.
        instructions: Templates to use if the arguments name none.
        when_finished: Called if the run is finished already.

    Returns:
        The run, or `None` if it is finished already (which is reported).

    Raises:
        LaunchError: if fewer processes joined than were asked for.
        ValueError: if the output folder cannot be used, holds a run with other settings, or a finished one that is
            asked to train longer or has lost its weights, another run writes there, or the data cannot be used.
    """
    from hf_reason.trainers.launch import check_world_size

    data, evaluation, args = (
        group_of(groups, DataArguments),
        group_of(groups, EvaluationArguments),
        training_args(groups),
    )
    check_world_size(data.expected_world_size)
    evaluation.check(data.thinking)
    check_output_dir(str(args.output_dir))
    check_output_apart(str(args.output_dir), named(groups, _DATA), named(groups, _MODELS))
    if args.process_index == 0:
        hold(Path(args.output_dir))
    on_interrupt(lambda: training_state(str(args.output_dir)))
    same_settings_or_refuse(args, *groups)
    output = str(args.output_dir)
    if is_finished(output):
        refuse_without_weights(output)
        refuse_more(args)
        if when_finished is not None:
            when_finished()
        elif args.push_to_hub and args.process_index == 0 and not was_pushed(output):
            push_folder(args)
        if args.process_index == 0:
            print(f"{output} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return None
    templates = load_instructions(data.instructions) if data.instructions else dict(instructions or {})
    splits = load(data, evaluation, args)
    same_records_or_refuse(args, splits.train, templates)
    return TrainingRun(groups, splits, templates)
