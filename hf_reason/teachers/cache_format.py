"""The top-k cache on disk: what a row holds, how its bytes are laid out, and how a shard is written.

A row is one record: `id`, `tokens_hash` (of ids and labels), `tokens` (n scored tokens), and for each of them the k
most likely ids, their log-probabilities and that of all other tokens together, some ids drawn from those others with
the mean of their log-probabilities; and, with a path, the similarities between the record's steps. Numbers are stored
as planes of bytes (all low bytes, then all high bytes), which zstd packs much better: the high bytes hardly vary.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import TeacherError

if TYPE_CHECKING:
    import pyarrow

FORMAT = 2
META, SETTINGS = "cache.json", "settings.json"
_ID_BYTES = 3  # up to 16.7 million ids


class CachedRow(NamedTuple):
    """Targets of one record of n scored tokens: the numpy twin of `TopKTargets`.

    `ids` is `(n, k)` int64, `log_probs` `(n, k)` float16, most likely first, `log_tail` `(n,)` float16; `tail_ids` is
    `(n, samples)` int64, `tail_log_prob` `(n,)` float16; `similarities` is `(steps, steps)` float16, or `None`.
    """

    ids: np.ndarray
    log_probs: np.ndarray
    log_tail: np.ndarray
    tail_ids: np.ndarray
    tail_log_prob: np.ndarray
    similarities: np.ndarray | None


def tokens_hash(input_ids: Sequence[int], labels: Sequence[int]) -> bytes:
    """16 bytes that stand for a record's tokens and for which of them are scored."""
    both = np.asarray([input_ids, labels], dtype="<i4")
    return hashlib.blake2b(both.tobytes(), digest_size=16).digest()


def _planes(values: np.ndarray, size: int) -> bytes:
    parts = np.ascontiguousarray(values).view(np.uint8).reshape(-1, values.dtype.itemsize)
    return parts[:, :size].T.tobytes()


def _from_planes(data: Any, size: int, dtype: str, count: int) -> np.ndarray:
    parts = np.frombuffer(data, dtype=np.uint8).reshape(size, count)
    values = np.zeros((count, np.dtype(dtype).itemsize), dtype=np.uint8)
    values[:, :size] = parts.T
    return values.view(dtype).reshape(-1)


def pack_row(row: CachedRow) -> dict[str, Any]:
    """The stored columns of a row's numbers."""
    similarities = None
    if row.similarities is not None:
        # symmetric with ones on the diagonal: the part below it is all there is to know
        below = row.similarities[np.tril_indices(len(row.similarities), -1)]
        similarities = len(row.similarities), _planes(below.astype("<f2"), 2)
    return {
        "tokens": len(row.ids),
        "ids": _planes(row.ids.astype("<i4"), _ID_BYTES),
        "log_probs": _planes(row.log_probs.astype("<f2"), 2),
        "log_tail": _planes(row.log_tail.astype("<f2"), 2),
        "tail_ids": _planes(row.tail_ids.astype("<i4"), _ID_BYTES),
        "tail_log_prob": _planes(row.tail_log_prob.astype("<f2"), 2),
        "steps": similarities[0] if similarities else 0,
        "similarities": similarities[1] if similarities else None,
    }


def unpack_row(stored: Mapping[str, Any], k: int, samples: int) -> CachedRow:
    """The inverse of `pack_row`."""
    n, steps = stored["tokens"], stored["steps"]
    similarities = None
    if stored["similarities"] is not None:
        similarities = np.eye(steps, dtype=np.float16)
        below = np.tril_indices(steps, -1)
        similarities[below] = _from_planes(stored["similarities"], 2, "<f2", len(below[0]))
        similarities = np.tril(similarities) + np.tril(similarities, -1).T
    return CachedRow(
        _from_planes(stored["ids"], _ID_BYTES, "<i4", n * k).reshape(n, k).astype(np.int64),
        _from_planes(stored["log_probs"], 2, "<f2", n * k).reshape(n, k),
        _from_planes(stored["log_tail"], 2, "<f2", n),
        _from_planes(stored["tail_ids"], _ID_BYTES, "<i4", n * samples).reshape(n, samples).astype(np.int64),
        _from_planes(stored["tail_log_prob"], 2, "<f2", n),
        similarities,
    )


def schema() -> "pyarrow.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("tokens_hash", pa.binary(16)),
            ("tokens", pa.int32()),
            ("ids", pa.large_binary()),
            ("log_probs", pa.large_binary()),
            ("log_tail", pa.large_binary()),
            ("tail_ids", pa.large_binary()),
            ("tail_log_prob", pa.large_binary()),
            ("steps", pa.int32()),
            ("similarities", pa.large_binary()),
        ]
    )


def shard_name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a shard of stored rows (`id`, `tokens_hash` and `pack_row`'s columns) under its name, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_suffix(".partial")
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema())
    pq.write_table(table, partial, compression="zstd", compression_level=9, use_dictionary=False)
    os.replace(partial, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_meta(folder: Path) -> dict[str, Any]:
    """`cache.json` of a finished cache.

    Raises:
        TeacherError: if the folder is no cache, an unfinished one, or one of another format.
    """
    path = folder / META
    if not path.is_file():
        if (folder / SETTINGS).is_file():
            raise TeacherError(f"The teacher cache {folder} is unfinished: run its recipes/cache_teacher.py again.")
        raise TeacherError(f"{folder} is no teacher cache (it has no {META}). Make one with recipes/cache_teacher.py.")
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherError(
            f"{path} is damaged ({error}). Make the cache anew with recipes/cache_teacher.py."
        ) from None
    if meta.get("format") != FORMAT:
        raise TeacherError(f"{path} has the format {meta.get('format')}, this version reads {FORMAT}. Make it anew.")
    return meta
