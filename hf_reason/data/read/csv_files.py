"""Rows of CSV files as pandas, databases and Excel write them."""

import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from .compressed import how_to_convert, open_bytes
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError

# What pandas and databases write into a cell that has no value.
_NO_VALUE = frozenset(("nan", "NaN", "<NA>", "NaT", "NULL", "null", "#N/A"))
_DELIMITERS = (",", ";", "\t")
# Excel's first line that names the delimiter.
_EXCEL = re.compile(r'"?sep=(.)"?\s*')


def _delimiter(header: str) -> str:
    """What separates the cells: a comma, or a semicolon or tab where the header is one cell with it."""
    cells = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _DELIMITERS}
    return "," if cells[","] > 1 else max(cells, key=lambda mark: cells[mark])


def _columns(header: list[str], label: str) -> list[str]:
    """The names of the columns; an empty name is that of a column without one, as pandas' index."""
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise SourceError(
            f"{label}: its header has {', '.join(map(repr, twice))} more than once, so it is not clear which column "
            "holds it. Rename or remove one of them."
        )
    return names


def _cells(file: IO[str], label: str) -> Iterator[dict[str, str | None] | None]:
    """The cells of each row by their names; `None` for a row that has more or fewer of them than the header."""
    header = file.readline()  # not read twice: some streams cannot go back
    named = _EXCEL.fullmatch(header)
    lines = file if named else chain([header], file)
    reader = csv.reader(lines, delimiter=named[1] if named else _delimiter(header))
    names = _columns(next(reader, []), label)
    for cells in reader:
        if any(cells):  # Excel writes rows of nothing below a table
            values = (None if cell in _NO_VALUE else cell for cell in cells)
            row = dict(zip(names, values, strict=False))
            row.pop("", None)
            yield row if len(cells) == len(names) else None


def read_csv(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of a CSV file with a header. Cells are text; those of pandas and SQL without a value are `None`."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a thought is longer than the default limit
    with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
        rows = _cells(file, label)
        number = 0
        while True:
            number += 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except UnicodeDecodeError as error:
                # the text is decoded ahead of the rows, so the place is not exactly known
                where = f"after row {number - 1}" if number > 1 else "in its first rows"
                what = f"not UTF-8 {where} ({error.reason}); the rest of the file cannot be read"
                on_broken(BrokenRow(label, number, f"{label}: {what}. {how_to_convert(path)}"))
                return
            except csv.Error as error:
                message = f"{label}, row {number}: {error}; the rest of the file cannot be read. {FIX}"
                on_broken(BrokenRow(label, number, message))
                return
            if cells is None:
                message = f"{label}, row {number}: not as many cells as the header has columns. {FIX}"
                on_broken(BrokenRow(label, number, message))
                continue
            yield Row(label, number, dict(cells))
