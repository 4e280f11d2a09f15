"""The data of a training recipe: which records, and in which form they are trained."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.data import DataError, load_cot_sft_dataset

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class DataArguments:
    """What a training recipe reads."""

    dataset: str | None = field(
        default=None, metadata={"help": "Prepared folder or Hub data set. Default: the built-in sample."}
    )
    domain: str = field(default="all", metadata={"help": "One domain, or all."})
    max_train_records: int | None = field(default=None, metadata={"help": "Only the first records of the split."})
    instructions: str | None = field(
        default=None, metadata={"help": "YAML with a template of each domain, or 'default' for the built-in ones."}
    )
    thinking: bool = field(default=True, metadata={"help": "False: train on the answers without their thoughts."})
    expected_world_size: int | None = field(
        default=None, metadata={"help": "Number of processes that must train together; another one is an error."}
    )

    @property
    def report(self) -> Path | None:
        """The preparation's report, if the data set is a folder here."""
        return Path(self.dataset, "report.json") if self.dataset and os.path.isdir(self.dataset) else None


def load_splits(data: DataArguments, args: Any, evaluates: bool) -> "tuple[Dataset, Dataset | None, Dataset | None]":
    """Training, validation (if the run evaluates) and test records; a missing test split is said and left out.

    Raises:
        DataError: if training or validation records are missing.
    """
    with args.main_process_first(desc="loading the data set"):
        train = load_cot_sft_dataset(data.domain, "train", data.dataset)
        validation = load_cot_sft_dataset(data.domain, "validation", data.dataset) if evaluates else None
        try:
            test = load_cot_sft_dataset(data.domain, "test", data.dataset)
        except DataError as error:
            print(f"Note: {error} The run goes on without it.", file=sys.stderr)
            test = None
    return train.select(range(min(data.max_train_records or len(train), len(train)))), validation, test


def as_trained(records: "Dataset | None", thinking: bool) -> "Dataset | None":
    """The records as they are, or without their thoughts."""
    return records if thinking or records is None else records.map(lambda record: {"steps": []})
