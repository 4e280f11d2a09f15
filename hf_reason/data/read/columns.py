"""The values of a row's columns as text, or an error that names the column."""

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


def text_of(row: Values, column: str, *, required: bool = False) -> str:
    """The text of a column (`a|b`: of the first that is there); empty for null unless it is required."""
    names = column.split("|")
    name = next((name for name in names if name in row), names[0])
    value = row.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value.strip()):
        seen = "empty" if isinstance(value, str) else "null" if value is None else f"a {type(value).__name__}"
        raise SourceError(f"field {name!r} must be text, but is {seen}.")
    # Half of a surrogate pair, which JSON can escape, cannot be stored as UTF-8 later.
    return value.encode("utf-8", "replace").decode("utf-8")


def answer_of(row: Values, column: str) -> str:
    """An answer as text: a string, a number, or a list of them (several unknowns)."""
    name = next((name for name in column.split("|") if name in row), column)
    value = row.get(name)
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
