"""Which layout a row has, and an error that helps where it has none."""

from typing import Any

from .layouts import ADAPTERS, Adapter
from .normal_rows import normal_row
from .rows import FIX, Row, SourceError

_NEAREST = 3


class UnknownLayoutError(SourceError):
    """A row that fits no layout."""


def detect(row: dict[str, Any]) -> Adapter | None:
    """The adapter whose columns `row` has, the most specific first; `None` if there is none."""
    return layout_of(normal_row(row))


def layout_of(values: dict[str, Any]) -> Adapter | None:
    """`detect` for a row in normal form."""
    return next((adapter for adapter in ADAPTERS.values() if adapter.matches(values)), None)


class LayoutDetector:
    """`detect`, or a check of the chosen `schema`, once for each set of columns and the kinds of list in them."""

    def __init__(self, schema: str | None = None):
        if schema is not None and schema not in ADAPTERS:
            raise SourceError(f"Unknown schema {schema!r}. Known: {', '.join(ADAPTERS)}.")
        self._chosen = ADAPTERS[schema] if schema is not None else None
        self._known: dict[frozenset[tuple[str, bool]], Adapter] = {}
        self._last: tuple[str, Adapter] | None = None  # file and layout of the last row that had one

    def __call__(self, row: Row, values: dict[str, Any]) -> Adapter:
        """The adapter of a row.

        Args:
            row: The row as the file has it, for the message.
            values: Its `normal_row`.

        Raises:
            UnknownLayoutError: with the columns that the row has and the layouts that come nearest, or with the fields
                that it lacks of the layout that the rows before it have.
        """
        key = frozenset((name, isinstance(value, list)) for name, value in values.items())
        if (adapter := self._known.get(key)) is None:
            adapter = self._known[key] = self._find(row, values)
        self._last = row.label, adapter
        return adapter

    def _find(self, row: Row, values: dict[str, Any]) -> Adapter:
        columns = ", ".join(map(str, row.values)) or "none"
        if self._chosen is not None:
            if missing := self._chosen.missing(values):
                raise self._lack(row, values) or UnknownLayoutError(
                    f"{row.where}: schema {self._chosen.name!r} needs {', '.join(missing)}, which the row lacks or "
                    f"has with another type; its columns are {columns}."
                )
            return self._chosen
        adapter = layout_of(values)
        if adapter is None:
            raise self._lack(row, values) or UnknownLayoutError(
                f"{row.where}: unknown layout. Its columns are {columns}.{_nearest(values)}\nRename the columns "
                "(English or Chinese names), or name a layout with schema= (--schema); docs/prepare.md lists all "
                "layouts."
            )
        return adapter

    def _lack(self, row: Row, values: dict[str, Any]) -> UnknownLayoutError | None:
        """The error of a row that lacks a field of the layout that the rows before it in the file have."""
        if self._last is None or self._last[0] != row.label:
            return None
        adapter, found = self._last[1], []
        for want in adapter.missing(values):
            present = [name for name in want.split("|") if name in values]
            if not present:
                found.append(f"field {want!r} is missing")
            elif values[present[0]] is None:
                found.append(f"field {present[0]!r} is null")
            else:
                found.append(f"field {present[0]!r} must be a list, but is a {type(values[present[0]]).__name__}")
        return UnknownLayoutError(
            f"{row.where}: unknown layout: {', '.join(found)}; the rows before have the layout {adapter.name}. {FIX}"
        )


def _nearest(values: dict[str, Any]) -> str:
    """The layouts that lack the fewest columns, as a sentence."""
    found = []
    for adapter in ADAPTERS.values():
        missing = adapter.missing(values)
        if len(missing) < len(adapter.wants):
            # Among equals the layout that knows the most names: the general one, not that of one publisher.
            names = sum(want.count("|") + 1 for want in adapter.wants)
            found.append((len(missing), -names, adapter.name, missing))
    listed = [f"{name} (lacks {', '.join(missing)})" for *_, name, missing in sorted(found)[:_NEAREST]]
    if not listed:
        return " No layout has any of them."
    return f" Nearest layouts: {'; '.join(listed)} (a|b: either)."
