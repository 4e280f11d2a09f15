"""Rows out of files, folders and Hub data sets, one at a time, so that a file larger than memory works."""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from .compressed import COMPRESSIONS, check_is_data, until_damage
from .csv_files import read_csv
from .feedback import ENDINGS, is_feedback, is_sqlite, read_feedback
from .json_files import read_json, read_jsonl, read_lines
from .rows import OnBroken, Row, SourceError, refuse
from .tables import BOOKKEEPING, is_saved, read_arrow, read_hub, read_parquet, read_saved

FORMATS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".arrow")
_ZIPPABLE = (".json", ".jsonl", ".ndjson", ".csv")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
_ARCHIVES = {".zip": "unzip", ".tar": "tar -xf", ".tgz": "tar -xzf", ".7z": "7z x", ".rar": "unrar x"}
# What marks a folder of `hf-reason generate-traces`, and the file with its traces.
_OF_TRACES = ("traces.json", "traces.jsonl")
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?")
_READERS = {
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".db": read_feedback,
}


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        return suffixes[0] if len(suffixes) == 2 and suffixes[0] in _ZIPPABLE else None
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def _unpack(path: Path) -> str | None:
    """The command that unpacks an archive; `None` for another file."""
    endings = [suffix.lower() for suffix in path.suffixes[-2:]]
    tar = ".tar" in endings and endings[-1] in (".tar", *COMPRESSIONS)
    command = _ARCHIVES[".tar"] if tar else _ARCHIVES.get("".join(endings[-1:]))
    return f"{command} {shlex.quote(str(path))}" if command else None


def _read_file(path: Path, kind: str, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    check_is_data(path, label)
    with closing(_READERS[kind](path, label, on_broken, texts)) as rows:  # type: ignore[type-var]
        yield from until_damage(rows, path, label, on_broken)


def _read_folder(folder: Path, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The files of a known format, in the order of their paths; hidden ones and all others are ignored."""
    found: list[Path] = []
    for parent, names, files in os.walk(folder):
        here = Path(parent)
        if is_saved(here):
            found.append(here)
            names.clear()
            continue
        names[:] = [name for name in names if not name.startswith(".")]
        shown = (here / name for name in files if name not in BOOKKEEPING and not name.startswith("."))
        # a database of something else may stand there (Thumbs.db)
        found += [file for file in shown if _format(file) or (file.suffix in ENDINGS and is_feedback(file))]
    if not found:
        raise SourceError(
            f"No data in the folder {folder}: it holds no {', '.join(FORMATS)} file and no saved data set."
        )
    for path in sorted(found, key=lambda path: path.relative_to(folder).parts):
        label = path.relative_to(folder).as_posix()
        if path.is_dir():
            yield from read_saved(path, folder.name if path == folder else label)
        else:
            yield from _read_file(path, _format(path) or ".db", label, on_broken, texts)


def open_source(source: str | os.PathLike[str], on_broken: OnBroken = refuse, texts: bool = False) -> Iterator[Row]:
    """The rows of a file, a folder or a Hub data set. Raises at once if it does not exist.

    Args:
        source: A `.json` (an array, one object, or several), `.jsonl` or `.csv` file (each also `.gz`, `.bz2`, `.xz`
            or `.zst`), a `.parquet` or `.arrow` file, the feedback of a server (SQLite); a folder of them, read
            recursively in the order of the paths; a folder that `save_to_disk` wrote; or a Hub name, `"user/name"`,
            `"user/name:split"` or `"user/name:configuration:split"` (default split: train).
        on_broken: Called for each row that cannot be read; if it returns, reading continues with the next row.
        texts: Also accept rows that are plain text, as the column `text`: strings in JSON, and the lines of a file
            of any other format.

    Raises:
        SourceError: if there is no such source, or its format is not known.
    """
    path = Path(source)
    if path.is_dir():
        if (path / _OF_TRACES[0]).is_file() and (path / _OF_TRACES[1]).is_file():
            path = path / _OF_TRACES[1]  # beside it are samples, pairs and verdicts
            return _read_file(path, ".jsonl", path.name, on_broken, texts)
        return _read_folder(path, on_broken, texts)
    if path.exists():
        if (kind := _format(path)) is None and is_sqlite(path):
            kind = ".db"  # whatever it is called
        if kind is None:
            ending = path.suffix.lower()
            if ending in _SPREADSHEETS or (ending == ".tsv" and not texts):
                raise SourceError(f"{path}: {ending} cannot be read. Export it as CSV in UTF-8.")
            if (unpack := _unpack(path)) is not None:
                raise SourceError(f"{path}: an archive cannot be read. Unpack it: {unpack}")
            if texts:
                return read_csv(path, path.name, on_broken, texts) if ending == ".tsv" else read_lines(path, path.name)
            raise SourceError(
                f"{path}: not a format that can be read. Known: {', '.join(FORMATS)}, and text with "
                f"{', '.join(COMPRESSIONS)}."
            )
        return _read_file(path, kind, path.name, on_broken, texts)
    name = _HUB_NAME.fullmatch(os.fspath(source))
    looks_local = _format(path) or path.suffix in ENDINGS or path.parent.is_dir() and path.parent != Path(".")
    if name is None or looks_local or os.fspath(source).startswith((".", "/", "~")):
        raise SourceError(f"No such file or folder: {source}. (A Hub data set is named user/name or user/name:split.)")
    first, second = name.group("first"), name.group("second")
    config, split = (first, second) if second else (None, first)
    return read_hub(name.group("name"), config, split or "train")


def close_rows(rows: Iterator[Row]) -> closing:
    """A context in which `rows` is read; its file is closed at the end."""
    return closing(rows)  # type: ignore[type-var]
