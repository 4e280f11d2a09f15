"""Rows out of files, folders and Hub data sets, one at a time, so that a file larger than memory works."""

import csv
import gzip
import io
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO

from .json_stream import BrokenJson, stream_values
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError, refuse

FORMATS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
_ZIPPABLE = (".json", ".jsonl", ".ndjson", ".csv")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")
# Files that `datasets` writes beside the data.
_BOOKKEEPING = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?")
_PARQUET_BATCH = 256
# Columns whose text is kept as it is, even if it looks like a JSON list.
_PLAIN_COLUMNS = ("question", "problem", "answer", "题目", "问题", "题干", "答案", "标准答案", "回答")


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        return suffixes[0] if len(suffixes) == 2 and suffixes[0] in _ZIPPABLE else None
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _row(label: str, number: int, value: object, unit: str, on_broken: OnBroken, texts: bool) -> Row | None:
    if isinstance(value, dict):
        return Row(label, number, value)
    if texts and isinstance(value, str):
        return Row(label, number, {"text": value})
    kind = type(value).__name__
    message = f"{label}, {unit} {number}: a row must be a JSON object with named columns, not {kind}. {FIX}"
    on_broken(BrokenRow(label, number, message))
    return None


def _convert(path: Path) -> str:
    """How to write a file in UTF-8, as a sentence."""
    text, name = shlex.quote(str(path)), path.name.removesuffix(".gz")
    if path.suffix.lower() == ".gz":
        return f"If it is GBK: gunzip -c {text} | iconv -f GB18030 -t UTF-8 > {shlex.quote('utf8-' + name)}"
    return f"If it is GBK: iconv -f GB18030 -t UTF-8 {text} > {shlex.quote('utf8-' + name)}"


def _delimiter(file: IO[str]) -> str:
    """What separates the cells: a comma, or a semicolon or tab where the header is one cell with it."""
    header = file.readline()
    file.seek(0)
    cells = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in (",", ";", "\t")}
    return "," if cells[","] > 1 else max(cells, key=lambda mark: cells[mark])


def _read_jsonl(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not line:
                    continue
                value = json.loads(line)
            except UnicodeDecodeError as error:
                place = f"{label}, line {number}"
                message = f"{place}: not UTF-8 ({error.reason} at byte {error.start} of it). {_convert(path)} {FIX}"
                on_broken(BrokenRow(label, number, message))
            except (json.JSONDecodeError, RecursionError) as error:
                detail = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                on_broken(BrokenRow(label, number, f"{label}, line {number}: not valid JSON ({detail}). {FIX}"))
            else:
                if (row := _row(label, number, value, "line", on_broken, texts)) is not None:
                    yield row


def _read_json(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    number = 0
    try:
        with _open(path) as file:
            for number, value in enumerate(stream_values(file), 1):
                if (row := _row(label, number, value, "row", on_broken, texts)) is not None:
                    yield row
    except BrokenJson as error:
        what = f"not valid JSON after row {number} ({error})"
        fix = "Fix it, or write the file as JSONL, where a broken line affects only itself."
        if isinstance(error.__cause__, UnicodeDecodeError):
            what, fix = f"{error} after row {number}", _convert(path)
        message = f"{label}, line {error.line}: {what}; the rest of the file cannot be read. {fix}"
        on_broken(BrokenRow(label, number + 1, message))


def _parsed(column: str, text: str) -> object:
    """A CSV cell: lists and objects come as JSON."""
    if text[:1] in ("[", "{") and text[-1:] in ("]", "}") and column not in _PLAIN_COLUMNS:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _read_csv(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a thought is longer than the default limit
    with _open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        reader: csv.DictReader[str] | None = None
        number = 0
        while True:
            number += 1
            try:
                if reader is None:  # here, so that a header that is not UTF-8 is told like a row
                    reader = csv.DictReader(file, delimiter=_delimiter(file))
                cells = next(reader, None)
            except UnicodeDecodeError as error:
                # the text is decoded ahead of the rows, so the place is not exactly known
                where = f"after row {number - 1}" if number > 1 else "in its first rows"
                what = f"not UTF-8 {where} ({error.reason}); the rest of the file cannot be read"
                message = f"{label}: {what}. {_convert(path)}"
                on_broken(BrokenRow(label, number, message))
                return
            except csv.Error as error:
                on_broken(BrokenRow(label, number, f"{label}, row {number}: {error}. {FIX}"))
                continue
            if cells is None:
                return
            if None in cells or None in cells.values():
                message = f"{label}, row {number}: not as many cells as the header has columns. {FIX}"
                on_broken(BrokenRow(label, number, message))
                continue
            yield Row(label, number, {name: _parsed(name, cell) for name, cell in cells.items()})


def _read_parquet(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(label, number, values)
    except pa.ArrowException as error:
        message = f"{label}: not a readable Parquet file after row {number} ({error})."
        on_broken(BrokenRow(label, number + 1, message))


def _read_lines(path: Path, label: str) -> Iterator[Row]:
    """A text file: each line that is not empty is a row with the column `text`."""
    try:
        with _open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Row(label, number, {"text": line.strip()})
    except UnicodeDecodeError as error:
        raise SourceError(f"{label}: not UTF-8 text ({error.reason}). {_convert(path)}") from error


_READERS = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def _is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def _read_saved(folder: Path, label: str) -> Iterator[Row]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise SourceError(f"{label}: not a data set that save_to_disk wrote completely ({error}).") from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    for name, split in splits.items():
        for number, values in enumerate(split, 1):
            yield Row(f"{label}/{name}".rstrip("/"), number, dict(values))


def _read_folder(folder: Path, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The files of a known format, in the order of their paths; hidden ones and all others are ignored."""
    found: list[Path] = []
    for parent, names, files in os.walk(folder):
        here = Path(parent)
        if _is_saved(here):
            found.append(here)
            names.clear()
            continue
        names[:] = [name for name in names if not name.startswith(".")]
        shown = (here / name for name in files if name not in _BOOKKEEPING and not name.startswith("."))
        found += [file for file in shown if _format(file)]
    if not found:
        raise SourceError(
            f"No data in the folder {folder}: it holds no {', '.join(FORMATS)} file and no saved data set."
        )
    for path in sorted(found, key=lambda path: path.relative_to(folder).parts):
        label = path.relative_to(folder).as_posix()
        if path.is_dir():
            yield from _read_saved(path, folder.name if path == folder else label)
        else:
            yield from _READERS[_format(path) or ".jsonl"](path, label, on_broken, texts)


def _read_hub(name: str, config: str | None, split: str) -> Iterator[Row]:
    import datasets
    from huggingface_hub import constants

    label = name if config is None else f"{name}:{config}"
    try:
        rows = iter(datasets.load_dataset(name, config, split=split, streaming=True))
        first = list(next(rows, {}).items())
    except Exception as error:  # the libraries below raise dozens of kinds
        offline = " The Hub is switched off (HF_HUB_OFFLINE)." if constants.HF_HUB_OFFLINE else ""
        raise SourceError(
            f"Cannot read split {split!r} of the Hub data set {label}: {error}.{offline} Check the name "
            "(user/name:split or user/name:configuration:split) and the network, or download it and give the path."
        ) from error
    for number, values in enumerate(chain([dict(first)] if first else [], rows), 1):
        yield Row(label, number, dict(values))


def open_source(source: str | os.PathLike[str], on_broken: OnBroken = refuse, texts: bool = False) -> Iterator[Row]:
    """The rows of a file, a folder or a Hub data set. Raises at once if it does not exist.

    Args:
        source: A `.json` (an array, one object, or several), `.jsonl`, `.csv` (each also `.gz`) or `.parquet` file;
            a folder of them, read recursively in the order of the paths; a folder that `save_to_disk` wrote; or a
            Hub name, `"user/name"`, `"user/name:split"` or `"user/name:configuration:split"` (default split:
            train).
        on_broken: Called for each row that cannot be read; if it returns, reading continues with the next row.
        texts: Also accept rows that are plain text, as the column `text`: strings in JSON, and the lines of a file
            of any other format.

    Raises:
        SourceError: if there is no such source, or its format is not known.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, on_broken, texts)
    if path.exists():
        if (kind := _format(path)) is None:
            ending = path.suffix.lower()
            if ending in _SPREADSHEETS or (ending == ".tsv" and not texts):
                raise SourceError(f"{path}: {ending} cannot be read. Export it as CSV in UTF-8.")
            if texts:
                return _read_lines(path, path.name)
            raise SourceError(f"{path}: not a format that can be read. Known: {', '.join(FORMATS)}, and .gz of text.")
        return _READERS[kind](path, path.name, on_broken, texts)
    name = _HUB_NAME.fullmatch(os.fspath(source))
    looks_local = _format(path) or path.parent.is_dir() and path.parent != Path(".")
    if name is None or looks_local or os.fspath(source).startswith((".", "/", "~")):
        raise SourceError(f"No such file or folder: {source}. (A Hub data set is named user/name or user/name:split.)")
    first, second = name.group("first"), name.group("second")
    config, split = (first, second) if second else (None, first)
    return _read_hub(name.group("name"), config, split or "train")


def close_rows(rows: Iterator[Row]) -> closing:
    """A context in which `rows` is read; its file is closed at the end."""
    return closing(rows)  # type: ignore[type-var]
