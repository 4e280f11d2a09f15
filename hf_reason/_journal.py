"""A file to which a long run adds what it has made, so that a kill at any moment loses and doubles nothing."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_HEADER = "settings"


class JournalError(ValueError):
    """A journal that cannot be continued."""


class Journal:
    """JSON lines: first the settings, then one row a line. A line counts once its line break is on the disk.

    Rows are not kept in memory, only where they are in the file.

    Args:
        path: The file; made if it is missing.
        settings: What shapes the rows. Plain values.
        key: The fields of a row that name it; a second row of a name is not added. Empty: rows have no names.
        replace: Start anew if the file was written with other settings, instead of refusing.

    Raises:
        JournalError: if the file was written with other settings, or a line in it is damaged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: Mapping[str, Any],
        *,
        key: tuple[str, ...] = (),
        replace: bool = False,
    ) -> None:
        self.path, self.key = Path(path), key
        self._places: list[int] = []
        self._rows: dict[tuple[Any, ...], int] = {}
        wanted = json.loads(json.dumps(dict(settings)))
        self._cut_unfinished_line()
        if self.path.is_file() and self.path.stat().st_size:
            before = self._settings()
            if before == wanted:
                self._index()
                return
            if not replace:
                self._refuse(before, wanted)
        self._write_anew(wanted)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: tuple[Any, ...]) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, in the order in which they were added."""
        with open(self.path, "rb") as file:
            for place in self._places:
                file.seek(place)
                yield json.loads(file.readline())

    def read(self, names: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
        """The rows of these names."""
        found = []
        with open(self.path, "rb") as file:
            for name in names:
                file.seek(self._places[self._rows[name]])
                found.append(json.loads(file.readline()))
        return found

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows; they are on the disk when this returns."""
        with open(self.path, "ab") as file:
            for row in rows:
                name = tuple(row[field] for field in self.key)
                if self.key and name in self._rows:
                    continue
                place = file.tell()
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
                self._note(name, place)
            file.flush()
            os.fsync(file.fileno())

    def _note(self, name: tuple[Any, ...], place: int) -> None:
        self._rows[name] = len(self._places)
        self._places.append(place)

    def _cut_unfinished_line(self) -> None:
        """What a killed run had begun to write goes; the lines before it are not touched."""
        if not self.path.is_file():
            return
        with open(self.path, "rb+") as file:
            end = file.seek(0, os.SEEK_END)
            whole = end
            while whole:
                start = max(0, whole - (1 << 16))
                file.seek(start)
                found = file.read(whole - start).rfind(b"\n")
                if found >= 0:
                    whole = start + found + 1
                    break
                whole = start
            if whole < end:
                file.truncate(whole)

    def _settings(self) -> Any:
        with open(self.path, "rb") as file:
            try:
                return json.loads(file.readline())[_HEADER]
            except (ValueError, KeyError, TypeError):
                return None

    def _index(self) -> None:
        with open(self.path, "rb") as file:
            file.readline()
            for number in range(2, 1 << 62):
                place = file.tell()
                line = file.readline()
                if not line:
                    return
                try:
                    row = json.loads(line)
                    name = tuple(row[field] for field in self.key)
                except (ValueError, KeyError, TypeError) as error:
                    raise JournalError(
                        f"{self.path}, line {number}, is damaged. Remove that line; the same command makes it again."
                    ) from error
                if not (self.key and name in self._rows):
                    self._note(name, place)

    def _write_anew(self, settings: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write((json.dumps({_HEADER: settings}, ensure_ascii=False) + "\n").encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def _refuse(self, before: Any, now: Any) -> None:
        if not isinstance(before, dict):
            raise JournalError(f"{self.path} is no file of such a run. Choose another output_dir, or remove it.")
        changed = [
            f"{name}: {before.get(name)} -> {now.get(name)}"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
        raise JournalError(
            f"{self.path} was written with other settings ({'; '.join(changed)}). Choose another output_dir, or "
            "remove this one."
        )
