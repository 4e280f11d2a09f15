"""Records to training rows: encode, drop or split what is too long, pack; the span columns stay aligned throughout."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_reason.text.long_chains import StepTooLong, split_encoded
from hf_reason.text.spans import ADDED_COLUMNS, ANSWER, CHOICE_IDS, DOMAIN_IDS, SPAN_COLUMNS, TASK_IDS, encode
from hf_reason.trainers.loss_terms.tasks import TaskTable
from hf_reason.trainers.sampling.domains import domain_id
from hf_reason.trainers.sampling.order import domain_of_rows

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

TOKEN_COLUMNS = ("input_ids", "labels", *SPAN_COLUMNS)


@dataclass
class LengthReport:
    """What `max_length` did to a data set. Lengths are in tokens.

    With `overlong="split"`, `pieces` is what the overlong examples became, and `unsplit` how many of them were dropped
    because one of their steps is too long.
    """

    examples: int
    overlong: int
    overlong_tokens: int
    tokens: int
    pieces: int = 0
    unsplit: int = 0

    def __str__(self) -> str:
        share = self.overlong_tokens / max(self.tokens, 1)
        return (
            f"{self.overlong} of {self.examples} examples over the limit ({self.overlong_tokens} tokens, {share:.1%})"
        )

    def outcome(self, overlong: str) -> str:
        """What became of the overlong examples."""
        if overlong != "split":
            return {"drop": "dropped", "truncate": "cut at the end"}[overlong]
        dropped = f"; {self.unsplit} dropped, which have a step that does not fit" if self.unsplit else ""
        return f"{self.overlong - self.unsplit} split at step boundaries into {self.pieces} pieces{dropped}"


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
    dataset: "Dataset | IterableDataset",
    max_length: int,
    overlong: str,
    name: str,
    map_kwargs: dict[str, Any],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    overlap_steps: int = 1,
) -> "tuple[Dataset | IterableDataset, LengthReport | None]":
    """Apply `max_length` as `overlong` says; a streamed data set gets no report, since it is not read yet.

    `tokenizer` and `overlap_steps` are for `overlong="split"`, which keeps the four token columns only.

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
    if overlong == "split":
        if tokenizer is None:
            raise ValueError("overlong='split' needs the tokenizer that the examples were encoded with.")
        return _split(dataset, max_length, name, map_kwargs, tokenizer, overlap_steps, report)
    if overlong == "truncate":

        def cut(row: dict[str, Any]) -> dict[str, Any]:
            return {column: row[column][:max_length] for column in row}

        dataset = dataset.map(cut, **map_kwargs).filter(_has_target, **map_kwargs)
        return dataset, report
    return dataset.filter(lambda row: len(row["input_ids"]) <= max_length, **map_kwargs), report


def _split(
    dataset: "Dataset | IterableDataset",
    max_length: int,
    name: str,
    map_kwargs: dict[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    overlap_steps: int,
    report: LengthReport | None,
) -> "tuple[Dataset | IterableDataset, LengthReport | None]":
    """Every example as its pieces; one with a step that does not fit is left out and counted in the report."""

    more = [column for column in ADDED_COLUMNS if column in (dataset.column_names or ())]

    def pieces(rows: dict[str, list]) -> dict[str, list]:
        found: dict[str, list] = {column: [] for column in (*TOKEN_COLUMNS, *more, "part")}
        for place in range(len(rows["input_ids"])):
            example = {column: rows[column][place] for column in TOKEN_COLUMNS}
            with suppress(StepTooLong):
                for part, piece in enumerate(split_encoded(example, tokenizer, max_length, overlap_steps)):
                    added = {column: _of_piece(column, rows[column][place], piece["segment_ids"]) for column in more}
                    for column, values in {**piece, **added, "part": part}.items():
                        found[column].append(values)
        return found

    dataset = dataset.select_columns([*TOKEN_COLUMNS, *more]).map(pieces, batched=True, batch_size=100, **map_kwargs)
    if report is not None:
        if not len(dataset):
            raise ValueError(
                f"{name} data set: no example fits into max_length={max_length}, nor does one of their steps with its "
                "prompt and overlap. Raise max_length, or lower overlap_steps."
            )
        report.unsplit = report.examples - sum(part == 0 for part in dataset["part"])
        report.pieces = len(dataset) - (report.examples - report.overlong)
    return dataset.remove_columns("part"), report


def _of_piece(column: str, values: list[int], segments: list[int]) -> list[int]:
    """An added column of a piece: domain and task are those of the record, choices belong to the answer."""
    if column != CHOICE_IDS:
        return [values[0]] * len(segments)
    answer = segments.count(ANSWER)
    return [0] * (len(segments) - answer) + values[len(values) - answer :]


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
