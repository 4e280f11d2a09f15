"""The values of a row's columns as text, or an error that names the column."""

import math
from typing import Any

from hf_reason.answers.forms import boxed

from .rows import SourceError

Values = dict[str, Any]
_HINTS = ("domain", "category", "subject", "problem_type", "cot_type", "repo_name")
_LONGEST_REFERENCE = 60


def domain_hint(row: Values) -> str | None:
    """The source's own name for the row's domain: the first of its columns that has one."""
    for name in _HINTS:
        value = row.get(name)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, str) and first.strip():
            return first.strip()
    return None


def _first(row: Values, column: str) -> str:
    """Of the columns `a|b` the first that holds something; else the first that is there."""
    names = [name for name in column.split("|") if name in row]
    return next((name for name in names if not _is_empty(row[name])), next(iter(names), column.partition("|")[0]))


def _is_empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(row: Values, column: str, *, required: bool = False) -> str:
    """The text of a column (`a|b`: of the first that holds something); empty for null unless it is required."""
    name = _first(row, column)
    value = row.get(name)
    if not required and _is_empty(value):
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        seen = "empty" if isinstance(value, str) else "null" if value is None else f"a {type(value).__name__}"
        raise SourceError(f"field {name!r} must be text, but is {seen}.")
    return storable(value)


def storable(text: str) -> str:
    """`text` without NUL, and without half of a surrogate pair, which JSON can escape and UTF-8 cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def problem_of(row: Values, column: str) -> str:
    """The problem in a column, with the instruction before it and the input after it if they have their own.

    Raises:
        SourceError: if there is none.
    """
    name = _first(row, column)
    parts = [text_of(row, name)]
    if name in ("question", "problem", "query", "prompt") and isinstance(row.get("instruction"), str):
        parts.insert(0, text_of(row, "instruction"))
    if name not in ("input", "context") and isinstance(row.get("input"), str):
        parts.append(text_of(row, "input"))
    parts = list(dict.fromkeys(part for part in parts if part.strip()))
    return "\n\n".join(parts) if parts else text_of(row, name, required=True)


def answer_of(row: Values, column: str) -> str:
    """An answer as text: a string, a number, or a list of them (several unknowns)."""
    name = _first(row, column)
    value = row.get(name)
    if _is_empty(value):
        return ""
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return text_of(row, name)


def short_reference(text: str) -> str | None:
    """The reference in a text that may be a whole solution: what its last boxes hold, or the text if short."""
    if (found := boxed(text)) is not None:
        return found or None
    short = text.strip()
    return short if 0 < len(short) <= _LONGEST_REFERENCE and "\n" not in short else None
