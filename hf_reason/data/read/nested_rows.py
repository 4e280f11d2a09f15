"""Rows inside of one object: `{"data": [row, ...]}`, `{"id-1": row, "id-2": row, ...}`, or a table by columns.

A table by columns is `{"question": [...], "answer": [...]}`, as pandas (also with the index as key) and `datasets`
write it, or `{"columns": [...], "data": [[...], ...]}`.
"""

from collections.abc import Mapping
from typing import Any

from .messages import is_message
from .rows import Row, SourceError

# Objects with fewer values than this are no collection of rows by their ids.
_FEWEST = 2


def rows_of_columns(row: Row) -> list[Row]:
    """The rows of a table by columns; empty for any other object, and if it is not the first of its file."""
    table = row.values
    if isinstance(table.get("columns"), list) and isinstance(table.get("data"), list):
        names, cells = [str(name) for name in table["columns"]], table["data"]
        if not cells or not all(isinstance(each, list) and len(each) == len(names) for each in cells):
            return []
        return [Row(row.label, number, dict(zip(names, each, strict=True))) for number, each in enumerate(cells, 1)]
    columns = {name: column for name, value in table.items() if (column := _column(value)) is not None}
    if row.number > 1 or not _FEWEST <= len(table) == len(columns) or len(set(map(len, columns.values()))) > 1:
        return []
    rows = zip(*columns.values(), strict=True)
    return [Row(row.label, number, dict(zip(columns, cells, strict=True))) for number, cells in enumerate(rows, 1)]


def _column(value: object) -> list[Any] | None:
    """The cells of a column: a list, or an object by the numbers of the rows; `None` for a value that is no column."""
    if isinstance(value, Mapping) and list(value) == [str(place) for place in range(len(value))]:
        value = list(value.values())
    return value if isinstance(value, list) and value and not any(map(_said, value)) else None


def nested_rows(row: Row, texts: bool = False) -> list[Row]:
    """The rows in a row that is none itself; empty if it holds none.

    Of several lists the longest counts.

    Args:
        row: One object of a file.
        texts: Also lists of texts, as rows with the column `text`.

    Raises:
        SourceError: for several lists of rows with the same columns, as of `{"train": [...], "test": [...]}`.
    """
    kinds = (dict, str) if texts else dict
    lists = {name: value for name, value in row.values.items() if _are_rows(value, kinds)}
    found: list[Any] = []
    if lists:
        found = max(lists.values(), key=len)
        same = [name for name, items in lists.items() if _keys(items[0]) == _keys(found[0])]
        if len(same) > 1:
            raise SourceError(
                f"{row.where}: it holds several lists of rows: {', '.join(same)}. Write a file for each, and give the "
                "one that you want."
            )
    elif len(row.values) >= _FEWEST and all(isinstance(value, dict) for value in row.values.values()):
        found = list(row.values.values())
    rows = (value if isinstance(value, dict) else {"text": value} for value in found)
    return [Row(row.label, number, value) for number, value in enumerate(rows, 1)]


def _are_rows(value: object, kinds: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(i, kinds) and not _said(i) for i in value)


def _said(item: object) -> bool:
    return isinstance(item, Mapping) and is_message(item)


def _keys(item: object) -> frozenset[str]:
    return frozenset(item) if isinstance(item, Mapping) else frozenset()
