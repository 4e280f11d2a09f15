"""Training from a top-k cache: no teacher runs; the collator reads each record's targets from disk."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hf_reason._renamed import renamed
from hf_reason.losses import TopKTargets, step_vectors
from hf_reason.text.collator import CoTCollator

from .base import (
    CACHED_COLUMNS,
    CACHED_SIMILARITIES,
    TEACHER_COLUMNS,
    TEACHER_PLACES,
    TEACHER_ROWS,
    TeacherTargets,
    scored,
)
from .cache_format import CachedRow, check_meta, read_meta, tokens_hash, unpack_row
from .errors import TeacherError

if TYPE_CHECKING:
    import datasets

_AGAIN = "Run its hf-reason cache-teacher again."


@renamed(path="path_consistency")
class TopKCache:
    """A cache that `hf-reason cache-teacher` wrote, memory-mapped.

    Args:
        folder: The cache's.
        temperature: The temperature of the divergence; the stored distributions belong to one.
        path_consistency: Whether similarities between steps are needed.

    Raises:
        TeacherError: if it is unfinished or damaged (a shard is missing, cut or shorter than it was), if it was
            made at another temperature, or if it holds no similarities and they are needed.
    """

    def __init__(self, folder: str | Path, *, temperature: float = 1.0, path_consistency: bool = False) -> None:
        self.folder = Path(folder)
        meta = read_meta(self.folder)
        check_meta(meta, self.folder)
        self.top_k, self.vocab_size, self.meta = int(meta["top_k"]), int(meta["vocab_size"]), meta
        self.samples = int(meta["tail_samples"])
        if temperature != meta["temperature"]:
            raise TeacherError(
                f"The teacher cache {folder} was made at temperature {meta['temperature']}, the training uses "
                f"{temperature}: the mass of the tokens that it does not hold is known at one temperature only. Set "
                f"temperature={meta['temperature']}, or make a cache with --temperature {temperature}."
            )
        if path_consistency and not meta["path_consistency"]:
            raise TeacherError(
                f"The teacher cache {folder} holds no steps. Make it with --path_consistency true, or set "
                "path_weight=0."
            )
        self._rows = _open(self.folder, meta)
        table = self._rows.with_format("arrow").select_columns(["id", "tokens_hash"])[:]
        keys = zip(table["id"].to_pylist(), table["tokens_hash"].to_pylist(), strict=True)
        self._index = {key: number for number, key in enumerate(keys)}
        self._ids = {name for name, _ in self._index}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> CachedRow:
        """The targets of one record.

        Raises:
            TeacherError: if a disk or a copy has changed them.
        """
        stored = self._rows[number]
        try:
            return unpack_row(stored, self.top_k, self.samples)
        except (TeacherError, ValueError) as error:
            raise TeacherError(
                f"Teacher cache {self.folder}: row {number} (id {stored['id']}) is damaged ({error}). Remove the "
                f"shards. {_AGAIN}"
            ) from None

    def find(self, name: str, input_ids: list[int], labels: list[int]) -> int:
        """The row of a record's tokens; -1: the record is not there; -2: it is, but with other tokens."""
        found = self._index.get((name, tokens_hash(input_ids, labels)))
        return found if found is not None else (-2 if name in self._ids else -1)

    def link(
        self, dataset: "datasets.Dataset", names: list[str], what: str, max_length: int | None, **map_kwargs: Any
    ) -> "datasets.Dataset":
        """Add the columns `teacher_rows` and `teacher_places` to encoded records: where each target's distribution is.

        Args:
            dataset: Rows of `text.encode`.
            names: Their record ids.
            what: The data set's name, for messages.
            max_length: Longer records may be missing: they will be dropped. `None`: none may.
            **map_kwargs: Passed on to `Dataset.map`.

        Raises:
            TeacherError: if a record is missing or was cached with other tokens.
        """
        rows, lengths = [], []
        for name, example in zip(names, dataset.with_format(None), strict=True):
            rows.append(self.find(name, example["input_ids"], example["labels"]))
            lengths.append(len(example["input_ids"]))
        needed = np.asarray(lengths) <= (max_length or np.inf)
        self._check(np.asarray(rows), needed, names, lengths, what)

        def places(example: dict[str, Any], number: int) -> dict[str, list[int]]:
            target = np.asarray(example["labels"]) != -100
            target[0] = False  # nothing predicts the first token
            known = target & (rows[number] >= 0)
            return {
                TEACHER_ROWS: np.where(known, rows[number], -1).tolist(),
                TEACHER_PLACES: np.where(known, np.cumsum(target) - 1, -1).tolist(),
            }

        return dataset.map(places, with_indices=True, **map_kwargs)

    def _check(self, rows: np.ndarray, needed: np.ndarray, names: list[str], lengths: list[int], what: str) -> None:
        for code, reason, fix in (
            (-1, "are not in it", "It was made from other data: make one from this data set (all of its splits)."),
            (
                -2,
                "were cached with other tokens",
                "Tokenizer, chat template, instructions or text have changed since: make the cache again, or use what "
                "it was made with.",
            ),
        ):
            wrong = np.flatnonzero((rows == code) & needed)
            if len(wrong):
                if code == -1 and lengths[wrong[0]] > self.meta["max_length"]:
                    fix = f"It was made with max_length={self.meta['max_length']}; they are longer."
                raise TeacherError(
                    f"Teacher cache {self.folder}: {len(wrong)} of {len(rows)} records of the {what} data set "
                    f"{reason} (the first is row {wrong[0]}, id {names[wrong[0]]}). {fix}"
                )

    @contextmanager
    def targets(self, batch: Mapping[str, torch.Tensor], *, path_consistency: bool) -> Iterator[TeacherTargets]:
        """See `Teacher.targets`; the batch is one of `CacheCollator`'s."""
        mask = scored(batch["labels"])
        fields = [batch[name][:, 1:][mask] for name in CACHED_COLUMNS if name in batch]
        fields = [field if field.is_floating_point() else field.long() for field in fields]
        similarities = batch[CACHED_SIMILARITIES].float() if path_consistency else None
        yield TeacherTargets(TopKTargets(*fields), similarities)


def _open(folder: Path, meta: Mapping[str, Any]) -> "datasets.Dataset":
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset
    from datasets.exceptions import DatasetGenerationError

    paths = []
    for name, rows in meta["shards"].items():
        path = folder / name
        try:
            found = pq.read_metadata(path).num_rows
        except FileNotFoundError:
            raise TeacherError(f"The teacher cache lacks {path}. {_AGAIN}") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise TeacherError(f"{path} is damaged ({error}). Remove it. {_AGAIN}") from None
        if found != rows:
            raise TeacherError(f"{path} has {found} rows instead of {rows}. Remove it. {_AGAIN}")
        paths.append(str(path))
    try:
        opened: Any = Dataset.from_parquet(paths)
    except (DatasetGenerationError, pa.ArrowInvalid, OSError) as error:
        raise TeacherError(
            f"A shard of the teacher cache {folder} is damaged ({error.__cause__ or error}). Remove the shards. "
            f"{_AGAIN}"
        ) from None
    return opened


@renamed(path="path_consistency")
@dataclass
class CacheCollator(CoTCollator):
    """`CoTCollator` that adds the teacher's targets.

    Adds `teacher_ids` `(batch, time, k)` int32, `teacher_log_probs` `(batch, time, k)` and `teacher_log_tail`
    `(batch, time)`, float16, at the tokens that are targets and 0 elsewhere; the same of the samples of the rest, if
    the cache holds any; and with `path_consistency` the similarities between the steps of each chain, `(chains,
    steps, steps)`.
    """

    cache: TopKCache | None = None
    path_consistency: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        assert self.cache is not None
        batch = super().torch_call(examples)
        shape = tuple(batch["input_ids"].shape)
        numbers, places = (self._padded([example[name] for example in examples], shape) for name in TEACHER_COLUMNS)
        found = {int(number): self.cache.row(int(number)) for number in np.unique(numbers[numbers >= 0])}
        k, samples = self.cache.top_k, self.cache.samples
        fields = [((k,), np.int32), ((k,), np.float16), ((), np.float16), ((samples,), np.int32), ((), np.float16)]
        columns = [np.zeros((*shape, *width), dtype=dtype) for width, dtype in fields]
        for number, row in found.items():
            here = numbers == number
            inside = places[here]
            for column, values in zip(columns, row[:-1], strict=True):  # the last field is the record's
                column[here] = values[inside]
        for name, values in zip(CACHED_COLUMNS if samples else CACHED_COLUMNS[:3], columns, strict=False):
            batch[name] = torch.from_numpy(values)
        if self.path_consistency:
            batch[CACHED_SIMILARITIES] = self._similarities(batch, numbers, found)
        return batch

    def _padded(self, rows: list[list[int]], shape: tuple[int, ...]) -> np.ndarray:
        """A column of the examples in the batch's shape, -1 at the padding."""
        if self.padding_free:
            rows = [[number for row in rows for number in row]]
        padded = np.full(shape, -1, dtype=np.int64)
        for target, row in zip(padded, rows, strict=True):
            target[: len(row)] = row
        return padded

    def _similarities(self, batch: Mapping[str, Any], numbers: np.ndarray, found: Mapping[int, CachedRow]) -> Any:
        """The matrices of the batch's chains, in the order in which `step_vectors` meets the chains."""
        # as hidden state, the number of the row that a token belongs to: a chain's steps then say which row it is
        marks = torch.from_numpy(numbers).unsqueeze(-1).double()
        vectors, counts = step_vectors(marks, batch["step_ids"])
        most = vectors.shape[1]
        similarities = np.zeros((len(counts), most, most), dtype=np.float16)
        for chain, (vector, count) in enumerate(zip(vectors, counts.tolist(), strict=True)):
            stored = found[int(vector[count - 1])].similarities
            if stored is None or len(stored) != count:
                raise TeacherError(
                    f"A chain of the batch has {count} steps, its cached one {0 if stored is None else len(stored)}: "
                    "the record was cut. Path consistency from a cache needs overlong='drop'."
                )
            similarities[chain, :count, :count] = stored
        return torch.from_numpy(similarities)
