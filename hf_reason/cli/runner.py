"""The frame of a training recipe: what comes before the trainer is built, and what follows after the training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.text import load_instructions

from .datasets import DataArguments, as_trained, load_splits
from .finish import EvaluationArguments, finish, generation_eval
from .resume import is_finished, same_settings_or_refuse

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


@dataclass
class TrainingRun:
    """A run that is to be trained.

    Attributes:
        data: The recipe's arguments about its data.
        evaluation: Those about its evaluation.
        args: The training arguments.
        train, validation, test: Records; `validation` if the run evaluates, `test` if the data have them.
        instructions: Template of each domain.
    """

    data: DataArguments
    evaluation: EvaluationArguments
    args: "CoTSFTConfig"
    train: "Dataset"
    validation: "Dataset | None"
    test: "Dataset | None"
    instructions: dict[str, str]

    def inputs(self, tokenizer: Any) -> dict[str, Any]:
        """What every trainer of the project is built from, its model aside."""
        options = (tokenizer, self.evaluation, self.data.thinking, self.instructions)
        return {
            "args": self.args,
            "train_dataset": as_trained(self.train, self.data.thinking),
            "eval_dataset": as_trained(self.validation, self.data.thinking),
            "processing_class": tokenizer,
            "instructions": self.instructions,
            "generation_eval": None if self.validation is None else generation_eval(self.validation, *options),
        }

    def question(self) -> dict[str, Any] | None:
        """A test record to show what the model does: the first in the language of most training records."""
        if self.test is None or not len(self.test):
            return None
        language = Counter(self.train["language"]).most_common(1)[0][0]
        return next((record for record in self.test if record["language"] == language), self.test[0])

    def finish(self, trainer: "CoTSFTTrainer", template: str | Path, base_model: str | None) -> dict[str, Any]:
        """Save, evaluate on the test records, write report and card, push if asked to; see `runs.finish`."""
        report = self.data.report
        return finish(
            trainer,
            self.test,
            self.evaluation,
            template=template,
            data_report=report,
            thinking=self.data.thinking,
            base_model=base_model,
            dataset_name=None if report else self.data.dataset,
        )


def begin(groups: Sequence[Any]) -> TrainingRun | None:
    """Check the launch and the output folder, and load the records.

    Args:
        groups: The recipe's parsed dataclasses: `DataArguments`, `EvaluationArguments`, the training arguments and
            whatever else shapes the run.

    Returns:
        The run, or `None` if it is finished already (which is said).

    Raises:
        LaunchError: if fewer processes joined than were asked for.
        ValueError: if the output folder holds a run with other settings, or the data cannot be used.
    """
    from hf_reason.trainers import CoTSFTConfig
    from hf_reason.trainers.launch import check_world_size

    data = next(group for group in groups if isinstance(group, DataArguments))
    evaluation = next(group for group in groups if isinstance(group, EvaluationArguments))
    args = next(group for group in groups if isinstance(group, CoTSFTConfig))
    check_world_size(data.expected_world_size)
    same_settings_or_refuse(args, *groups)
    output = str(args.output_dir)
    if is_finished(output):
        print(f"{output} is finished: nothing to do. Choose another output_dir, or remove it to start anew.")
        return None
    instructions = load_instructions(data.instructions)
    return TrainingRun(data, evaluation, args, *load_splits(data, args, args.eval_strategy != "no"), instructions)
