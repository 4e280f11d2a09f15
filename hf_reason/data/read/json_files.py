"""Rows of JSON files, JSON Lines, and plain lines."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

from .compressed import how_to_convert, open_bytes
from .json_stream import BrokenJson, stream_values
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError


def _row(label: str, number: int, value: object, unit: str, on_broken: OnBroken, texts: bool) -> Row | None:
    if isinstance(value, dict):
        return Row(label, number, value)
    if texts and isinstance(value, str):
        return Row(label, number, {"text": value})
    kind = type(value).__name__
    message = f"{label}, {unit} {number}: a row must be a JSON object with named columns, not {kind}. {FIX}"
    on_broken(BrokenRow(label, number, message))
    return None


def read_jsonl(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of a file with a JSON object on each line; blank lines count as lines and are skipped."""
    with open_bytes(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                # NULs at the end of a file are what a crash leaves of the blocks that were never written.
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\0 \t\r\n\f\v\u2028\u2029\x85\xa0")
                if not line:
                    continue
                value = json.loads(line)
            except UnicodeDecodeError as error:
                place = f"{label}, line {number}"
                message = (
                    f"{place}: not UTF-8 ({error.reason} at byte {error.start} of it). {how_to_convert(path)} {FIX}"
                )
                on_broken(BrokenRow(label, number, message))
            except (json.JSONDecodeError, RecursionError) as error:
                detail = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
                on_broken(BrokenRow(label, number, f"{label}, line {number}: not valid JSON ({detail}). {FIX}"))
            else:
                if (row := _row(label, number, value, "line", on_broken, texts)) is not None:
                    yield row


def read_json(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of a JSON file: an array of objects, one object, or several."""
    number = 0
    try:
        with open_bytes(path) as file:
            for number, value in enumerate(stream_values(file), 1):
                if (row := _row(label, number, value, "row", on_broken, texts)) is not None:
                    yield row
    except BrokenJson as error:
        what = f"not valid JSON after row {number} ({error})"
        fix = "Fix it, or write the file as JSONL, where a broken line affects only itself."
        if isinstance(error.__cause__, UnicodeDecodeError):
            what, fix = f"{error} after row {number}", how_to_convert(path)
        message = f"{label}, line {error.line}: {what}; the rest of the file cannot be read. {fix}"
        on_broken(BrokenRow(label, number + 1, message))


def read_lines(path: Path, label: str) -> Iterator[Row]:
    """A text file: each line that is not empty is a row with the column `text`."""
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Row(label, number, {"text": line.strip()})
    except UnicodeDecodeError as error:
        raise SourceError(f"{label}: not UTF-8 text ({error.reason}). {how_to_convert(path)}") from error
