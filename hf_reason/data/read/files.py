"""Rows out of files, folders and Hub data sets, one at a time, so that a file larger than memory works."""

import csv
import gzip
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, NoReturn

from hf_reason.data.record import DataError

from .json_stream import BrokenJson, stream_values

FORMATS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
_ZIPPABLE = (".json", ".jsonl", ".ndjson", ".csv")
# Files that `datasets` writes beside the data.
_BOOKKEEPING = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?::(?P<first>[\w.-]+))?(?::(?P<second>[\w.-]+))?")
_PARQUET_BATCH = 256
_MEND = "Fix it, or leave such rows out with skip_broken=True (--skip_broken)."


class SourceError(DataError):
    """A source that cannot be read, or a row in it that no adapter can use."""


# Called for a row that cannot be read; it raises, or reports and lets the reading go on.
OnBroken = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One row as the file has it: `label` names the file, `number` counts from 1 (in JSONL: the line)."""

    label: str
    number: int
    values: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.label}#{self.number}"


def refuse(message: str) -> NoReturn:
    """The default for broken rows."""
    raise SourceError(message)


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        return suffixes[0] if len(suffixes) == 2 and suffixes[0] in _ZIPPABLE else None
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _is_row(value: object, where: str, on_broken: OnBroken) -> bool:
    if isinstance(value, dict):
        return True
    on_broken(f"{where}: a row must be a JSON object with named columns, not {type(value).__name__}. {_MEND}")
    return False


def _read_jsonl(path: Path, label: str, on_broken: OnBroken) -> Iterator[Row]:
    with _open(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not line:
                    continue
                value = json.loads(line)
            except UnicodeDecodeError as error:
                on_broken(f"{label}, line {number}: not UTF-8 ({error.reason} at byte {error.start}). {_MEND}")
            except (json.JSONDecodeError, RecursionError) as error:
                detail = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                on_broken(f"{label}, line {number}: not valid JSON ({detail}). {_MEND}")
            else:
                if _is_row(value, f"{label}, line {number}", on_broken):
                    yield Row(label, number, value)


def _read_json(path: Path, label: str, on_broken: OnBroken) -> Iterator[Row]:
    number = 0
    try:
        with _open(path) as file:
            for number, value in enumerate(stream_values(file), 1):
                if _is_row(value, f"{label}, row {number}", on_broken):
                    yield Row(label, number, value)
    except BrokenJson as error:
        on_broken(
            f"{label}, line {error.line}: not valid JSON behind row {number} ({error}); the rest of the file cannot "
            "be read. Fix it, or write the file as JSONL, where a broken line spoils only itself."
        )


def _parsed(column: str, text: str) -> object:
    """A CSV cell: lists and objects come as JSON."""
    if text[:1] in ("[", "{") and text[-1:] in ("]", "}") and column not in ("question", "problem", "answer"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _read_csv(path: Path, label: str, on_broken: OnBroken) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a thought is longer than the default limit
    with _open(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        number = 0
        while True:
            number += 1
            try:
                cells = next(reader, None)
            except UnicodeDecodeError as error:
                on_broken(
                    f"{label}, row {number}: not UTF-8 ({error.reason}); the rest of the file cannot be read. Convert "
                    "it first, for example with: iconv -f GBK -t UTF-8"
                )
                return
            except csv.Error as error:
                on_broken(f"{label}, row {number}: {error}. {_MEND}")
                continue
            if cells is None:
                return
            if None in cells or None in cells.values():
                on_broken(f"{label}, row {number}: not as many cells as the header has columns. {_MEND}")
                continue
            yield Row(label, number, {name: _parsed(name, cell) for name, cell in cells.items()})


def _read_parquet(path: Path, label: str, on_broken: OnBroken) -> Iterator[Row]:
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
        on_broken(f"{label}: not a readable Parquet file behind row {number} ({error}).")


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


def _read_folder(folder: Path, on_broken: OnBroken) -> Iterator[Row]:
    """Files that a format fits, in the order of their paths; hidden ones and all others are passed over."""
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
            yield from _READERS[_format(path) or ".jsonl"](path, label, on_broken)


def _read_hub(name: str, config: str | None, split: str) -> Iterator[Row]:
    import datasets
    from huggingface_hub import constants

    label = name if config is None else f"{name}:{config}"
    try:
        rows = iter(datasets.load_dataset(name, config, split=split, streaming=True))
        first = list(next(rows, {}).items())
    except Exception as error:  # the libraries below raise dozens of kinds
        offline = " The Hub is switched off here (HF_HUB_OFFLINE)." if constants.HF_HUB_OFFLINE else ""
        raise SourceError(
            f"Cannot read split {split!r} of the Hub data set {label}: {error}.{offline} Check the name "
            "(user/name:split or user/name:configuration:split) and the network, or download it and give the path."
        ) from error
    for number, values in enumerate(chain([dict(first)] if first else [], rows), 1):
        yield Row(label, number, dict(values))


def open_source(source: str | os.PathLike[str], on_broken: OnBroken = refuse) -> Iterator[Row]:
    """The rows of a file, a folder or a Hub data set; whether it exists is checked at once.

    Args:
        source: A `.json` (an array, one object, or several), `.jsonl`, `.csv` (each also `.gz`) or `.parquet` file;
            a folder of them, read recursively in the order of the paths; a folder that `save_to_disk` wrote; or a
            Hub name, `"user/name"`, `"user/name:split"` or `"user/name:configuration:split"` (default split:
            train).
        on_broken: Called with a message for each row that cannot be read; if it returns, reading goes on.

    Raises:
        SourceError: if there is no such source, or its format is not known.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, on_broken)
    if path.exists():
        if (kind := _format(path)) is None:
            raise SourceError(f"{path}: not a format that can be read. Known: {', '.join(FORMATS)}, and .gz of text.")
        return _READERS[kind](path, path.name, on_broken)
    name = _HUB_NAME.fullmatch(os.fspath(source))
    looks_local = _format(path) or path.parent.is_dir() and path.parent != Path(".")
    if name is None or looks_local or os.fspath(source).startswith((".", "/", "~")):
        raise SourceError(f"No such file or folder: {source}. (A Hub data set is named user/name or user/name:split.)")
    first, second = name.group("first"), name.group("second")
    config, split = (first, second) if second else (None, first)
    return _read_hub(name.group("name"), config, split or "train")


def close_rows(rows: Iterator[Row]) -> closing:
    """A context in which `rows` is read, and after which its file is closed."""
    return closing(rows)  # type: ignore[type-var]
