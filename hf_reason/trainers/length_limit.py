"""What happens to examples over `max_length`: dropped, split at their steps, cut, or refused."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_reason.text.long_chains import StepTooLong, split_encoded
from hf_reason.text.spans import ANSWER, CHOICE_IDS, IGNORE_INDEX, SPAN_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

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
        ratio = self.overlong_tokens / max(self.tokens, 1)
        return (
            f"{self.overlong} of {self.examples} examples over the limit ({self.overlong_tokens} tokens, {ratio:.1%})"
        )

    def outcome(self, overlong: str) -> str:
        """What became of the overlong examples."""
        if overlong != "split":
            return {"drop": "dropped", "truncate": "cut at the end"}[overlong]
        dropped = f"; {self.unsplit} dropped, which have a step that does not fit" if self.unsplit else ""
        return f"{self.overlong - self.unsplit} split at step boundaries into {self.pieces} pieces{dropped}"


def limit_length(
    dataset: "Dataset | IterableDataset",
    max_length: int,
    overlong: str,
    name: str,
    map_kwargs: dict[str, Any],
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    overlap_steps: int = 1,
    added: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> "tuple[Dataset | IterableDataset, LengthReport | None]":
    """Apply `max_length` as `overlong` says.

    A streamed data set gets no report, since it is not read yet: it is said that nothing will be counted, and with
    `overlong="error"` the error comes when the example does.

    `tokenizer`, `overlap_steps` and `added` are for `overlong="split"`, which keeps the four token columns and
    those of `added` (domains, tasks and choices). Columns of `whole` have no value a token: each piece has them.

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
    elif overlong != "error":
        logger.warning(
            "The %s data set is streamed: examples over max_length=%d are not counted, and %s as they come.",
            name,
            max_length,
            {"drop": "dropped", "split": "split", "truncate": "cut at the end"}[overlong],
        )
    if overlong == "error":
        return dataset.map(_refuse_overlong, fn_kwargs={"max_length": max_length, "name": name}, **map_kwargs), report
    if overlong == "split":
        if tokenizer is None:
            raise ValueError("overlong='split' needs the tokenizer that the examples were encoded with.")
        return _split(dataset, max_length, name, map_kwargs, tokenizer, overlap_steps, added, whole, report)
    if overlong == "truncate":

        def cut(row: dict[str, Any]) -> dict[str, Any]:
            return {column: row[column][:max_length] for column in row if column not in whole}

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
    added_columns: Sequence[str],
    whole: Sequence[str],
    report: LengthReport | None,
) -> "tuple[Dataset | IterableDataset, LengthReport | None]":
    """Every example as its pieces; one with a step that does not fit is left out and counted in the report."""

    def pieces(rows: dict[str, list]) -> dict[str, list]:
        found: dict[str, list] = {column: [] for column in (*TOKEN_COLUMNS, *added_columns, *whole, "part")}
        for place in range(len(rows["input_ids"])):
            example = {column: rows[column][place] for column in TOKEN_COLUMNS}
            with suppress(StepTooLong):
                for part, piece in enumerate(split_encoded(example, tokenizer, max_length, overlap_steps)):
                    added = {
                        column: _of_piece(column, rows[column][place], piece["segment_ids"])
                        for column in added_columns
                    }
                    kept = {column: rows[column][place] for column in whole}
                    for column, values in {**piece, **added, **kept, "part": part}.items():
                        found[column].append(values)
        return found

    columns = [*TOKEN_COLUMNS, *added_columns, *whole]
    dataset = dataset.select_columns(columns).map(pieces, batched=True, batch_size=100, **map_kwargs)
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


def _refuse_overlong(row: dict[str, Any], max_length: int, name: str) -> dict[str, Any]:
    if (length := len(row["input_ids"])) > max_length:
        raise ValueError(
            f"{name} data set: an example of {length} tokens is over max_length={max_length}. Raise max_length, or "
            "set overlong='drop'."
        )
    return row


def _has_target(row: dict[str, Any]) -> bool:
    return any(label != IGNORE_INDEX for label in row["labels"])
