"""Records to training rows: encode, drop what is too long, pack; the span columns stay aligned throughout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_reason.text.spans import CHOICE_IDS, DOMAIN_IDS, SPAN_COLUMNS, TASK_IDS, encode

from .domains import domain_id
from .order import domain_of_rows
from .tasks import TaskTable

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

TOKEN_COLUMNS = ("input_ids", "labels", *SPAN_COLUMNS)


@dataclass
class LengthReport:
    """What `max_length` did to a data set. Lengths are in tokens."""

    examples: int
    overlong: int
    overlong_tokens: int
    tokens: int

    def __str__(self) -> str:
        share = self.overlong_tokens / max(self.tokens, 1)
        return (
            f"{self.overlong} of {self.examples} examples over the limit ({self.overlong_tokens} tokens, {share:.1%})"
        )


def is_record_dataset(columns: list[str]) -> bool:
    """Whether a data set holds records (rather than text, messages or tokens in one of TRL's formats)."""
    return {"context", "steps", "answer"} <= set(columns) and "input_ids" not in columns


@dataclass
class AddedColumns:
    """Columns that tell a token's domain and task.

    Attributes:
        domains: Whether the domain is wanted.
        tasks: The tasks, if there are any.
    """

    domains: bool = False
    tasks: TaskTable | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (DOMAIN_IDS,) * self.domains + (TASK_IDS, CHOICE_IDS) * (self.tasks is not None)

    def of(self, record: Mapping[str, Any], encoded: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """The columns of a record."""
        columns = {DOMAIN_IDS: [domain_id(record.get("domain"))] * len(encoded["input_ids"])} if self.domains else {}
        return columns | (self.tasks.columns(record, encoded) if self.tasks is not None else {})


def _encode(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    instructions: Mapping[str, str] | None,
    added: AddedColumns | None,
) -> dict[str, list[int]]:
    encoded = encode(record, tokenizer, instructions=instructions)
    return encoded | (added.of(record, encoded) if added is not None else {})


def encode_records(
    dataset: "Dataset | IterableDataset",
    tokenizer: "PreTrainedTokenizerBase",
    instructions: Mapping[str, str] | None,
    map_kwargs: dict[str, Any],
    added: "AddedColumns | None" = None,
) -> "Dataset | IterableDataset":
    """Replace the record's columns by the four token columns, and those of `added`."""
    return dataset.map(
        _encode,
        fn_kwargs={"tokenizer": tokenizer, "instructions": instructions, "added": added},
        remove_columns=list(dataset.column_names or []),
        **map_kwargs,
    )


def limit_length(
    dataset: "Dataset | IterableDataset", max_length: int, overlong: str, name: str, map_kwargs: dict[str, Any]
) -> "tuple[Dataset | IterableDataset, LengthReport | None]":
    """Apply `max_length` as `overlong` says; a streamed data set gets no report, since it is not read yet.

    Raises:
        ValueError: with `overlong="error"` and an example that is too long, or when no example is left.
    """
    from datasets import Dataset

    report = None
    if isinstance(dataset, Dataset):
        lengths = [len(ids) for ids in dataset.with_format(None)["input_ids"]]
        over = [length for length in lengths if length > max_length]
        report = LengthReport(len(lengths), len(over), sum(over), sum(lengths))
        if not over:
            return dataset, report
        if overlong == "error":
            raise ValueError(
                f"{name} data set: {report} of max_length={max_length}. Raise max_length, or set overlong='drop'."
            )
        if overlong == "drop" and len(over) == len(lengths):
            raise ValueError(
                f"{name} data set: every example is longer than max_length={max_length} (shortest {min(lengths)} "
                "tokens). Raise max_length."
            )
    if overlong == "truncate":

        def cut(row: dict[str, Any]) -> dict[str, Any]:
            return {column: row[column][:max_length] for column in row}

        dataset = dataset.map(cut, **map_kwargs).filter(_has_target, **map_kwargs)
        return dataset, report
    return dataset.filter(lambda row: len(row["input_ids"]) <= max_length, **map_kwargs), report


def _has_target(row: dict[str, Any]) -> bool:
    return any(label != -100 for label in row["labels"])


def pack_rows(
    dataset: "Dataset", length: int, strategy: str, seed: int | None, by_domain: bool, map_kwargs: dict[str, Any]
) -> "Dataset":
    """Pack whole examples into rows of `length` tokens.

    Args:
        dataset: Token columns only.
        length: Tokens of a row.
        strategy: TRL's name of it.
        seed: Shuffle before packing; `None` leaves the order.
        by_domain: Pack each domain apart, so that a sampler can draw rows by domain.
        map_kwargs: For `map`.
    """
    from datasets import concatenate_datasets
    from trl.data_utils import pack_dataset

    if seed is not None:
        dataset = dataset.shuffle(seed=seed)
    if not by_domain:
        return pack_dataset(dataset, length, strategy, map_kwargs)
    rows = np.asarray(domain_of_rows(dataset))
    parts = [dataset.select(np.flatnonzero(rows == key)) for key in np.unique(rows)]
    return concatenate_datasets([pack_dataset(part, length, strategy, map_kwargs) for part in parts])
