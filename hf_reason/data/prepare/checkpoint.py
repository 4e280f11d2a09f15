"""The `.work` folder of a preparation: finished chunks on disk, so that a killed run can resume.

`settings.json` says which sources and settings the chunks were made with.
"""

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.data.record import DataError

from .chunks import ChunkFiles

WORK = ".work"
# Of the files below; unfinished work of another version is begun again.
_FORMAT = 2
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


class WorkFolder:
    """The `.work` folder of `output_dir`, held by one process at a time (a context manager).

    Args:
        output_dir: The folder that will hold the data set.
        settings: JSON-able description of everything that decides the result.
        chunk_size: Traces in a chunk, for a new run; a resumed one keeps the size it began with.

    Attributes:
        path: The folder.
        chunks: The chunks in it.
        chunk_size: Traces in a chunk.

    Raises:
        DataError: if the folder holds work with other settings, or another process is working in it.
    """

    def __init__(self, output_dir: Path, settings: dict[str, Any], chunk_size: int):
        from filelock import FileLock, Timeout

        self.path = output_dir / WORK
        self.chunks = ChunkFiles(self.path)
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
            self.chunks.remove()  # left by a run that was killed while it cleaned up
            (self.path / "all_read").unlink(missing_ok=True)
            write_json_atomically(path, {"format": _FORMAT, "settings": settings, "chunk_size": chunk_size})
            return chunk_size
        state = json.loads(path.read_text(encoding="utf-8"))
        if state.get("format") != _FORMAT or (state["settings"] != settings and not self.chunks.finished()):
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
        empty = isinstance(error, Exception) and not self.chunks.finished()
        if empty:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        if empty and self._is_new and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()

    @property
    def all_read(self) -> bool:
        """Whether the sources were read to their end."""
        return (self.path / "all_read").exists()

    def mark_all_read(self) -> None:
        write_atomically(self.path / "all_read", b"")


def remove_outputs(output_dir: Path) -> None:
    """Delete what a preparation wrote into `output_dir`, finished or not, and nothing else."""
    for name in (WORK, *OUTPUTS):
        path = output_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
