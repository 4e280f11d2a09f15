"""Rows inside of one object: `{"data": [row, ...]}`, or `{"id-1": row, "id-2": row, ...}`."""

from collections.abc import Mapping
from typing import Any

from .messages import is_message
from .rows import Row, SourceError

# Objects with fewer values than this are no collection of rows by their ids.
_FEWEST = 2


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
