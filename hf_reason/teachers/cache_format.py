"""The top-k cache on disk: what a row holds, how its bytes are laid out, and how a shard is written.

A row is one record: `id`, `tokens_hash` (of ids and labels), `tokens` (n scored tokens), and for each of them the k
most likely ids, their log-probabilities and that of all other tokens together, some ids drawn from those others with
the mean of their log-probabilities; and, with a path, the similarities between the record's steps. Numbers are stored
as planes of bytes (all low bytes, then all high bytes), which zstd packs much better: the high bytes hardly vary.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hf_reason._files import digest, write_atomically

from .errors import TeacherError

if TYPE_CHECKING:
    import pyarrow

FORMAT = 3  # 2: the settings had other names
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
    return bytes.fromhex(digest(both.tobytes(), size=16))


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
    stored = {
        "tokens": len(row.ids),
        "ids": _planes(row.ids.astype("<i4"), _ID_BYTES),
        "log_probs": _planes(row.log_probs.astype("<f2"), 2),
        "log_tail": _planes(row.log_tail.astype("<f2"), 2),
        "tail_ids": _planes(row.tail_ids.astype("<i4"), _ID_BYTES),
        "tail_log_prob": _planes(row.tail_log_prob.astype("<f2"), 2),
        "steps": similarities[0] if similarities else 0,
        "similarities": similarities[1] if similarities else None,
    }
    return {**stored, "checksum": _checksum(stored)}


def _checksum(stored: Mapping[str, Any]) -> bytes:
    """8 bytes that show whether a disk or a copy has changed a row: Parquet's compression does not."""
    parts = [
        str(value) if value is None or isinstance(value, int) else bytes(value)
        for name, value in sorted(stored.items())
        if name not in ("id", "tokens_hash", "checksum")
    ]
    return bytes.fromhex(digest(*parts))


def unpack_row(stored: Mapping[str, Any], top_k: int, samples: int) -> CachedRow:
    """The inverse of `pack_row`.

    Raises:
        TeacherError: if the row is not what was written. Rows of earlier versions have no checksum.
    """
    if stored.get("checksum") is not None and bytes(stored["checksum"]) != _checksum(stored):
        raise TeacherError("a row is damaged: it is not what was written")
    n, steps = stored["tokens"], stored["steps"]
    similarities = None
    if stored["similarities"] is not None:
        similarities = np.eye(steps, dtype=np.float16)
        below = np.tril_indices(steps, -1)
        similarities[below] = _from_planes(stored["similarities"], 2, "<f2", len(below[0]))
        similarities = np.tril(similarities) + np.tril(similarities, -1).T
    return CachedRow(
        _from_planes(stored["ids"], _ID_BYTES, "<i4", n * top_k).reshape(n, top_k).astype(np.int64),
        _from_planes(stored["log_probs"], 2, "<f2", n * top_k).reshape(n, top_k),
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
            ("checksum", pa.binary(8)),
        ]
    )


def shard_name(split: str, number: int, count: int) -> str:
    return f"{split}-{number:05d}-of-{count:05d}.parquet"


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a shard of stored rows (`id`, `tokens_hash` and `pack_row`'s columns) under its name, or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema())
    write_atomically(
        path, lambda place: pq.write_table(table, place, compression="zstd", compression_level=9, use_dictionary=False)
    )


def is_cache(folder: str | Path) -> bool:
    """Whether a folder holds a cache, finished or not."""
    return any(Path(folder, name).is_file() for name in (META, SETTINGS))


def check_format(meta: Mapping[str, Any], path: Path) -> None:
    """Refuse a cache that another version wrote.

    Raises:
        TeacherError: with the command that rebuilds it.
    """
    if meta.get("format") == FORMAT:
        return
    # format 2 called the teacher "teacher"
    teacher = meta.get("teacher_model_name_or_path") or meta.get("teacher") or "TEACHER"
    raise TeacherError(
        f"{path} has the format {meta.get('format')}, this version reads {FORMAT}. Remove {path.parent} and make the "
        f"cache again: hf-reason cache-teacher --dataset_name DATASET --teacher_model_name_or_path {teacher} "
        f"--output_dir {path.parent}"
    )


def read_meta(folder: Path) -> dict[str, Any]:
    """`cache.json` of a finished cache.

    Raises:
        TeacherError: if the folder is no cache, an unfinished one, or one of another format.
    """
    path = folder / META
    if not path.is_file():
        if (folder / SETTINGS).is_file():
            raise TeacherError(f"The teacher cache {folder} is unfinished. Run its hf-reason cache-teacher again.")
        raise TeacherError(f"{folder} is no teacher cache: it has no {META}. Make one with hf-reason cache-teacher.")
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherError(
            f"{path} is damaged ({error}). Make the cache again with hf-reason cache-teacher."
        ) from None
    if not isinstance(meta, dict):
        raise TeacherError(f"{path} is damaged (no mapping). Make the cache again with hf-reason cache-teacher.")
    check_format(meta, path)
    return meta


def check_meta(meta: Mapping[str, Any], folder: Path) -> None:
    """Refuse a `cache.json` that lacks what the rows cannot be read without.

    Raises:
        TeacherError: naming the fields.
    """
    if wrong := [name for name, fits in _META.items() if not fits(meta.get(name))]:
        raise TeacherError(
            f"{folder / META} is damaged ({', '.join(wrong)}). Make the cache again with hf-reason cache-teacher."
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_shards(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_count(rows) and name == Path(name).name and name.endswith(".parquet") for name, rows in value.items()
    )


# What a cache cannot be read without, and what it may be.
_META = {
    "top_k": _is_count,
    "vocab_size": _is_count,
    "tail_samples": _is_count,
    "temperature": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "path_consistency": lambda value: isinstance(value, bool),
    "max_length": lambda value: value is None or _is_count(value),
    "shards": _are_shards,
}
