"""Raw reasoning data -> traces and records, whatever layout it has.

    for record in read_records("traces.jsonl"):
        ...

The layout of each row is told by its columns (adapters.py); `schema=` overrides. Files, folders and Hub data
sets are streamed (readers.py).
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hf_reason.data.record import DOMAINS, RawTrace, make_record
from hf_reason.data.segment.steps import split_steps, strip_sequence

from .dialogues import HISTORIES
from .files import OnBroken, Row, SourceError, close_rows, open_source, refuse
from .layouts import ADAPTERS, Adapter

__all__ = ["ADAPTERS", "SourceError", "detect", "read_records", "read_traces", "trace_to_record"]

_log = logging.getLogger(__name__)
# Columns that some files hold as JSON text.
_JSON_LISTS = ("messages", "conversations", "steps", "generations")
_MEND = "Fix it, or leave such rows out with skip_broken=True (--skip_broken)."


def _layouts() -> str:
    return "\n".join(f"  {adapter.name}: {', '.join(adapter.wants)}" for adapter in ADAPTERS.values())


def _normal(values: dict[str, Any]) -> dict[str, Any]:
    """A row without a wrapper `{"layout", "row", ...}`, its lists as lists."""
    if isinstance(values.get("row"), dict) and isinstance(values.get("layout"), str):
        values = values["row"]
    parsed = {}
    for name in _JSON_LISTS:
        text = values.get(name)
        if isinstance(text, str) and text.lstrip()[:1] == "[":
            try:
                parsed[name] = json.loads(text)
            except json.JSONDecodeError:
                continue
    return {**values, **parsed} if parsed else values


def detect(row: dict[str, Any]) -> Adapter | None:
    """The adapter whose columns `row` has, the most specific first; `None` if there is none."""
    return next((adapter for adapter in ADAPTERS.values() if adapter.matches(row)), None)


class _Detector:
    """`detect`, once for each set of columns and the kinds of list in them."""

    def __init__(self, schema: str | None):
        self._chosen = ADAPTERS[schema] if schema else None
        self._known: dict[frozenset[tuple[str, bool]], Adapter] = {}

    def __call__(self, row: Row, values: dict[str, Any]) -> Adapter:
        key = frozenset((name, isinstance(value, list)) for name, value in values.items())
        if (adapter := self._known.get(key)) is not None:
            return adapter
        if self._chosen is not None:
            if missing := self._chosen.missing(values):
                raise SourceError(
                    f"{row.where}: schema {self._chosen.name!r} wants {', '.join(missing)}, which the row lacks or "
                    f"has with another type; its columns are {', '.join(values) or 'none'}."
                )
            self._known[key] = self._chosen
            return self._chosen
        adapter = detect(values)
        if adapter is None:
            raise SourceError(
                f"{row.where}: unknown layout. Its columns are {', '.join(values) or 'none'}; the known layouts want "
                f"(a|b: either)\n{_layouts()}\nRename the columns, or name a layout with schema= (--schema)."
            )
        self._known[key] = adapter
        return adapter

    @property
    def found_any(self) -> bool:
        return bool(self._known)


def read_traces(
    source: str | os.PathLike[str],
    schema: str | None = None,
    history: str = "drop",
    skip_broken: bool = False,
    on_broken: OnBroken | None = None,
) -> Iterator[RawTrace]:
    """Stream the traces of a file, a folder or a Hub data set (`open_source` says which).

    Args:
        source: Path or Hub name.
        schema: Name of a layout in `ADAPTERS`; `None` tells it by the columns of each row.
        history: What becomes of earlier turns in a dialogue, `"drop"`, `"keep"` or `"split"`; see
            `dialogue_traces`.
        skip_broken: Pass over rows that cannot be read instead of stopping at the first one.
        on_broken: Called with a message for each row passed over; by default it is logged as a warning.

    Raises:
        SourceError: at once for a source, schema or history that does not exist; while reading for a row that
            cannot be read (file, row and field are named) or whose layout is not known. A source none of whose
            rows has a known layout is refused with `skip_broken`, too.
    """
    if schema is not None and schema not in ADAPTERS:
        raise SourceError(f"Unknown schema {schema!r}. Known: {', '.join(ADAPTERS)}.")
    if history not in HISTORIES:
        raise SourceError(f"Unknown history policy {history!r}. Known: {', '.join(HISTORIES)}.")
    broken = (on_broken or _log.warning) if skip_broken else refuse
    return _traces(open_source(source, broken), _Detector(schema), history, broken)


def _traces(rows: Iterator[Row], detector: _Detector, history: str, broken: OnBroken) -> Iterator[RawTrace]:
    with close_rows(rows):
        for row in rows:
            values = _normal(row.values)
            try:
                adapter = detector(row, values)
            except SourceError as error:
                if not detector.found_any:
                    raise
                broken(str(error))
                continue
            try:
                traces = adapter.traces(values, history)
            except SourceError as error:
                broken(f"{row.where} (layout {adapter.name}): {error} {_MEND}")
                continue
            for trace in traces:
                yield replace(trace, source=row.where)


def trace_to_record(trace: RawTrace) -> dict[str, Any]:
    """The record of a trace: its chain in steps without numbering.

    The domain is the trace's own if it is one of the eight, else general; `DomainTagger` knows more.
    """
    steps = split_steps(trace.thought or "") if trace.steps is None else strip_sequence(trace.steps)
    hint = (trace.domain or "").strip().lower()
    return make_record(
        trace.context,
        steps,
        trace.answer,
        task=trace.task,
        domain=hint if hint in DOMAINS else "general",
        source=trace.source,
    )


def read_records(
    source: str | os.PathLike[str], schema: str | None = None, **options: Any
) -> Iterator[dict[str, Any]]:
    """Stream the records of a source, unfiltered: `trace_to_record` of what `read_traces` gives.

    `options` are those of `read_traces`: `history`, `skip_broken`, `on_broken`.
    """
    return map(trace_to_record, read_traces(source, schema, **options))
