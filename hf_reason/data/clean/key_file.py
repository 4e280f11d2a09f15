"""What the search for duplicates and the splits know of each record, in a file that is read in parts."""

import mmap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

# Rows that are read before the pages they stand on are given back.
_BLOCK = 8192
_FEW = 1024


class KeyFile:
    """A file of rows of one numpy dtype, of which only the parts that are asked for are in memory.

    A context manager. The file is mapped, and its pages are given back as they are read, so that the peak of a process
    does not depend on the size of the file.

    Args:
        path: The file.
        dtype: A structured dtype.
    """

    def __init__(self, path: Path, dtype: np.dtype):
        self._map: mmap.mmap | None = None
        self._rows = np.zeros(0, dtype=dtype)
        if path.stat().st_size:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._rows = np.frombuffer(self._map, dtype=dtype)
        self._touched = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> "KeyFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows = self._rows[:0].copy()
        if self._map is not None:
            self._map.close()

    def column(self, name: str, part: slice | None = None) -> np.ndarray:
        """A field of all rows, [rows], or of a field of several values those in `part`, [rows, values]."""
        field = self._rows[name] if part is None else self._rows[name][:, part]
        result = np.empty(field.shape, dtype=field.dtype)
        for start in range(0, len(field), _BLOCK):
            result[start : start + _BLOCK] = field[start : start + _BLOCK]
            self._give_back()
        return result

    def take(self, name: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """A field of some rows, in their order."""
        field = self._rows[name]
        result = np.empty((len(rows), *field.shape[1:]), dtype=field.dtype)
        for start in range(0, len(rows), _FEW):
            chosen = rows[start : start + _FEW]
            result[start : start + _FEW] = field[chosen]
            self._touched += len(chosen)
            if self._touched >= _FEW:
                self._give_back()
        return result

    def _give_back(self) -> None:
        self._touched = 0
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
