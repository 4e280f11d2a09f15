"""The `.work` folder of a preparation: finished chunks on disk, so that a killed run can resume.

Every finished chunk is three files: the records (Arrow stream), the context keys (raw numpy), and last the counts
(JSON), whose presence says that the chunk is finished.
`settings.json` says which sources and settings the chunks were made with.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.data.clean.splits import SIGNATURE_LENGTH, ContextKey
from hf_reason.data.record import DataError, Record, record_features

from .counts import Counts

if TYPE_CHECKING:
    import numpy as np

WORK = ".work"
# What a preparation writes; `overwrite` removes these and nothing else.
OUTPUTS = ("train", "validation", "test", "dataset_dict.json", "report.json", "report.html", "report.png")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {name: value}
    return {key: leaf for k, v in items for key, leaf in _flat(v, f"{name}.{k}" if name else str(k)).items()}


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """What differs between two settings, as `name: old -> new`, at most five."""
    before, now = _flat(old), _flat(new)
    found = [
        f"{name}: {before.get(name, 'nothing')!r} -> {now.get(name, 'nothing')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    return "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def key_type() -> "np.dtype":
    """How a `ContextKey` is stored on disk."""
    import numpy as np

    return np.dtype([("signature", "<u4", SIGNATURE_LENGTH), ("numbers", "<u8"), ("exact", "<u8")])


class WorkFolder:
    """The `.work` folder of `output_dir`, held by one process at a time (a context manager).

    Args:
        output_dir: The folder that will hold the data set.
        settings: JSON-able description of everything that decides the result.
        chunk_size: Traces in a chunk, for a new run; a resumed one keeps the size it began with.

    Raises:
        DataError: if the folder holds work with other settings, or another process is working in it.
    """

    def __init__(self, output_dir: Path, settings: dict[str, Any], chunk_size: int):
        from filelock import FileLock, Timeout

        self.path = output_dir / WORK
        self._is_new = not output_dir.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path / "lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise DataError(f"{output_dir}: another run is preparing data here. Wait until it ends.") from None
        try:
            self.chunk_size = self._settle(output_dir, settings, chunk_size)
        except BaseException:
            self._lock.release()
            raise

    def _settle(self, output_dir: Path, settings: dict[str, Any], chunk_size: int) -> int:
        path = self.path / "settings.json"
        if not path.exists():
            for stale in self.path.glob("chunk-*"):  # left by a run that was killed while it cleaned up
                stale.unlink()
            (self.path / "all_read").unlink(missing_ok=True)
            write_json_atomically(path, {"settings": settings, "chunk_size": chunk_size})
            return chunk_size
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["settings"] != settings and not self.finished_chunks():
            # A run that failed at its first rows has nothing worth keeping: the corrected call may start at once.
            path.unlink()
            return self._settle(output_dir, settings, chunk_size)
        if state["settings"] != settings:
            raise DataError(
                f"{output_dir} holds an unfinished run with other sources or settings "
                f"({differences(state['settings'], settings)}). Run it with the same arguments as before to resume "
                "it, choose another output_dir, or pass overwrite=True (--overwrite) to start again."
            )
        return state["chunk_size"]

    def __enter__(self) -> "WorkFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A run that failed at its first rows leaves nothing; one that was interrupted is resumed.
        empty = isinstance(error, Exception) and not self.finished_chunks()
        if empty:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        if empty and self._is_new and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    def finished_chunks(self) -> int:
        """Number of finished chunks; they are 0 .. n-1."""
        count = 0
        while self._file(count, "json").exists():
            count += 1
        return count

    def add_chunk(self, index: int, records: list[Record], keys: list[ContextKey], counts: Counts) -> None:
        """Store a finished chunk."""
        import numpy as np
        import pyarrow as pa

        schema = record_features().arrow_schema
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(records, schema=schema))
        write_atomically(self._file(index, "arrow"), sink.getvalue().to_pybytes())
        rows = np.zeros(len(keys), dtype=key_type())
        for row, key in zip(rows, keys, strict=True):
            row["signature"] = np.frombuffer(key.signature, dtype="<u4")
            row["numbers"], row["exact"] = key.numbers, key.exact
        write_atomically(self._file(index, "keys"), rows.tobytes())
        write_json_atomically(self._file(index, "json"), counts.to_dict())

    def counts(self) -> Counts:
        """The counts of all finished chunks together."""
        merged = Counts()
        for index in range(self.finished_chunks()):
            merged.merge(Counts.from_dict(json.loads(self._file(index, "json").read_text(encoding="utf-8"))))
        return merged

    def records(self, index: int) -> list[Record]:
        """The records of a finished chunk. Read through a stream, not a memory map, so that pages are given back."""
        import pyarrow as pa

        with pa.OSFile(str(self._file(index, "arrow"))) as file, pa.ipc.open_stream(file) as reader:
            return reader.read_all().to_pylist()

    def all_records(self) -> Iterator[Record]:
        """Every stored record, in order."""
        for index in range(self.finished_chunks()):
            yield from self.records(index)

    def all_keys(self) -> "np.ndarray":
        """The context keys of every stored record, in order (structured, see `key_type`)."""
        import numpy as np

        parts = [np.fromfile(self._file(index, "keys"), dtype=key_type()) for index in range(self.finished_chunks())]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=key_type())

    @property
    def all_read(self) -> bool:
        """Whether the sources were read to their end."""
        return (self.path / "all_read").exists()

    def mark_all_read(self) -> None:
        write_atomically(self.path / "all_read", b"")

    def _file(self, index: int, kind: str) -> Path:
        return self.path / f"chunk-{index:06d}.{kind}"


def remove_outputs(output_dir: Path) -> None:
    """Delete what a preparation wrote into `output_dir`, finished or not, and nothing else."""
    for name in (WORK, *OUTPUTS):
        path = output_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
