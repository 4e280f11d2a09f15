"""Records to prompts for GRPO: the one prompt builder's text beside the record's own columns, for the rewards."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datasets import IterableDataset
from trl.data_utils import get_dataset_column_names

from hf_reason.data.images import references_in
from hf_reason.generation.limits import check_prompts
from hf_reason.text import build_prompt, check_round_trip
from hf_reason.text.spans import prompt_token_ids
from hf_reason.trainers.sampling.difficulty import by_difficulty, solve_rates

from .arguments import check_data
from .cot_data import is_record_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

# The column with a problem's number in the training set.
ROW = "problem_row"


@dataclass
class GRPOData:
    """How a run makes prompts of records; data sets with a `prompt` stay as they are.

    Attributes:
        tokenizer: The model's.
        instructions: Template of each domain.
        thinking: Whether a thought is asked for.
        max_completion_length: For the check of the model's context.
        dropped: Training problems that `difficulty_from` left out: always and never solved.
        records: Name of a data set -> whether it has records.
    """

    tokenizer: "PreTrainedTokenizerBase"
    instructions: Mapping[str, str]
    thinking: bool
    max_completion_length: int
    dropped: tuple[int, int] = (0, 0)
    records: dict[str, bool] = field(default_factory=dict)

    def prepare(self, dataset: Any, name: str, model: Any, difficulty_from: str | None = None) -> Any:
        """The data set with a column `prompt`; a dictionary of data sets is prepared one by one.

        Raises:
            ValueError: if the chat template loses the problem or the thought, if a record has no answer to compare
                with, or if the model's context is too short.
        """
        if dataset is None:
            return None
        if isinstance(dataset, dict):
            return {key: self.prepare(part, name, model) for key, part in dataset.items()}
        check_data(dataset, name)
        columns = get_dataset_column_names(dataset)
        found = is_record_dataset(columns) and "prompt" not in columns
        if self.records.setdefault(name, found) != found:
            raise ValueError(f"Some {name} data sets have records and others prompts. Give one kind.")
        if not found:
            if difficulty_from is not None:
                raise ValueError("difficulty_from goes by the ids of records, and the training set has none.")
            return dataset
        check_round_trip(self.tokenizer)
        if isinstance(dataset, IterableDataset):
            if difficulty_from is not None:
                raise ValueError("difficulty_from chooses among all problems. Load them without streaming=True.")
            return dataset.map(self._row, with_indices=True)
        self._check_answers(dataset, name)
        if difficulty_from is not None:
            dataset = self._filtered(dataset, difficulty_from)
        dataset = dataset.map(self._row, with_indices=True, desc=f"Writing the prompts of the {name} data set")
        longest = sorted(set(dataset["prompt"]), key=len)[-64:]
        check_prompts(model, [prompt_token_ids(text, self.tokenizer) for text in longest], self.max_completion_length)
        return dataset

    def _row(self, record: Mapping[str, Any], row: int) -> dict[str, Any]:
        if references_in(record):
            raise ValueError(
                f"Record {record.get('id', row)} has images, and StepGRPOTrainer makes prompts of text alone. "
                "Describe the images in the text (hf-reason augment --captions 1 --replace), leave them out (prepare "
                "--images drop), or give TRL's format with a column 'prompt'."
            )
        options: dict[str, Any] = {"instructions": self.instructions, "thinking": self.thinking}
        return {"prompt": build_prompt(record, self.tokenizer, **options), ROW: row}

    def _check_answers(self, dataset: Any, name: str) -> None:
        missing = [row for row, answer in enumerate(dataset["answer"]) if not (answer or "").strip()]
        if missing:
            raise ValueError(
                f"{name} data set: {len(missing)} of {len(dataset)} records have no answer to compare completions "
                f"with (the first is row {missing[0]}). Remove them (dataset.filter), or prepare data with references."
            )

    def _filtered(self, dataset: Any, path: str) -> Any:
        if "id" not in dataset.column_names:
            raise ValueError("difficulty_from goes by the ids of records, and the training set has no column 'id'.")
        rates = solve_rates(path)
        known = sum(name in rates for name in dataset["id"])
        if not known:
            raise ValueError(
                f"difficulty_from: none of the {len(rates)} problems of {path} is in the training set. Evaluate on "
                "its training split (hf-reason evaluate --split train)."
            )
        kept, *counts = by_difficulty(dataset["id"], rates)
        self.dropped = (counts[0], counts[1])
        logger.warning(
            "difficulty_from: %d of %d problems left out (%d always solved, %d never); %d were not evaluated.",
            sum(counts),
            len(dataset),
            *counts,
            len(dataset) - known,
        )
        return dataset.select(kept)
