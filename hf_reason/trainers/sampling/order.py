"""What the order of training depends on: lengths, steps, domains and weights of a prepared data set's rows."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason.losses import token_weights
from hf_reason.text.spans import DOMAIN_IDS, IGNORE_INDEX, SPAN_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers.cot_sft_config import CoTSFTConfig

_CHUNK = 2000  # rows whose tokens are looked at together


def lengths(dataset: "Dataset") -> list[int]:
    """Tokens of each example."""
    import pyarrow.compute as pc

    return pc.list_value_length(dataset.with_format("arrow")["input_ids"][:]).to_pylist()  # type: ignore[no-any-return]


def sequence_lengths(dataset: "Dataset") -> list[int]:
    """Tokens of each example, of which a packed row holds several."""
    if "seq_lengths" not in dataset.column_names:
        return lengths(dataset)
    return [int(length) for row in dataset.with_format(None)["seq_lengths"] for length in row]


def token_chunks(dataset: "Dataset", *columns: str) -> Iterable[tuple[np.ndarray, list[np.ndarray]]]:
    """Where the rows of a chunk begin, and the columns' values, one row after the other."""
    table = dataset.with_format("arrow")
    for start in range(0, len(dataset), _CHUNK):
        chunk = table[start : start + _CHUNK]
        parts = [chunk[column].combine_chunks() for column in columns]
        sizes = parts[0].value_lengths().to_numpy(zero_copy_only=False)
        yield np.cumsum(sizes) - sizes, [part.flatten().to_numpy(zero_copy_only=False) for part in parts]


def last_steps(dataset: "Dataset") -> list[int]:
    """Number of steps of each example, its answer included."""
    chunks = token_chunks(dataset, "step_ids")
    return [int(n) for starts, (steps,) in chunks for n in np.maximum.reduceat(steps, starts)]


def domain_of_rows(dataset: "Dataset") -> list[int]:
    """Domain id of each row; packed rows hold one domain each."""
    return first_of_rows(dataset, DOMAIN_IDS)


def first_of_rows(dataset: "Dataset", column: str) -> list[int]:
    """The first value of each row in a column with one value a token."""
    return [int(n) for starts, (ids,) in token_chunks(dataset, column) for n in ids[starts]]


def weight_sums(dataset: "Dataset", args: "CoTSFTConfig") -> np.ndarray:
    """Sum of the token weights of each row, `(rows,)`, by `token_weights`."""
    return np.concatenate(list(_weights(dataset, args)))


def weighs_something(dataset: "Dataset", args: "CoTSFTConfig") -> bool:
    """Whether any token of a tokenised data set has a weight in the loss; without spans, whether it is a target."""
    if not set(SPAN_COLUMNS) <= set(dataset.column_names):
        return any((labels != IGNORE_INDEX).any() for _, (labels,) in token_chunks(dataset, "labels"))
    return any(sums.any() for sums in _weights(dataset, args))


def _weights(dataset: "Dataset", args: "CoTSFTConfig") -> Iterable[np.ndarray]:
    """The sums of each chunk of rows."""
    options: dict[str, Any] = {
        name: getattr(args, name) for name in ("thought_weight", "answer_weight", "step_weighting")
    }
    for starts, parts in token_chunks(dataset, "labels", *SPAN_COLUMNS):
        labels, segments, steps = (torch.from_numpy(part.astype(np.int64)).unsqueeze(0) for part in parts)
        weights = token_weights(labels, segments, steps, **options)
        yield np.add.reduceat(weights[0].double().numpy(), starts)
