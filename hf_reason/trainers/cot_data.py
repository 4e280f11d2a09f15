"""Records to training rows: encode, drop what is too long, pack; the span columns stay aligned throughout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_reason.text.spans import SPAN_COLUMNS, encode

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


def encode_records(
    dataset: "Dataset | IterableDataset",
    tokenizer: "PreTrainedTokenizerBase",
    instructions: Mapping[str, str] | None,
    map_kwargs: dict[str, Any],
) -> "Dataset | IterableDataset":
    """Replace the record's columns by the four token columns."""
    return dataset.map(
        encode,
        fn_kwargs={"tokenizer": tokenizer, "instructions": instructions},
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
