"""Raw reasoning data -> traces and records, whatever layout it has.

    for record in read_records("traces.jsonl"):
        ...

The layout of each row is detected from its columns (layouts.py), or given by `schema=`. Files, folders and Hub data
sets are streamed (files.py).
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hf_reason.data.record import DOMAINS, RawTrace, Record, make_record
from hf_reason.data.segment.steps import split_steps, strip_sequence

from .columns import storable
from .detection import LayoutDetector, UnknownLayoutError, detect
from .dialogues import check_history
from .files import close_rows, open_source
from .image_columns import ImageSettings, folders_of, take_images
from .layouts import ADAPTERS
from .nested_rows import nested_rows, rows_of_columns
from .normal_rows import normal_row
from .other_tags import TagTranslator
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError, log_broken, refuse

__all__ = ["ADAPTERS", "SourceError", "detect", "read_records", "read_traces", "trace_to_record"]

# A file whose first rows are all of unknown layout is given up, even if broken rows are skipped.
_UNKNOWN_ROWS = 1000


def read_traces(
    source: str | os.PathLike[str],
    schema: str | None = None,
    history: str = "drop",
    skip_broken: bool = False,
    on_broken: OnBroken | None = None,
    thought_tags: Sequence[str] = (),
    images: ImageSettings | None = None,
) -> Iterator[RawTrace]:
    """Stream the traces of a file, a folder or a Hub data set (see `open_source`).

    Args:
        source: Path or Hub name.
        schema: Name of a layout in `ADAPTERS`; `None` detects it from the columns of each row.
        history: What happens to earlier turns of a dialogue: `"drop"`, `"keep"` or `"split"`; see
            `dialogue_traces`.
        skip_broken: Skip rows that cannot be read instead of stopping at the first one.
        on_broken: Called with each `BrokenRow` that is skipped; by default it is logged as a warning.
        thought_tags: Tags that enclose a thought, besides the known ones (see `TagTranslator`).
        images: How images are read. They are not opened: one that is broken is known once it is.

    Raises:
        SourceError: at once for a source, schema, history or tag that does not exist; while reading for a row that
            cannot be read (file, row and field are named) or whose layout is not known. A file in which no row has a
            known layout is an error even with `skip_broken`.
    """
    detector = LayoutDetector(schema)
    check_history(history)
    broken = (on_broken or log_broken) if skip_broken else refuse
    tags, pictures = TagTranslator(thought_tags), images or ImageSettings()
    return _traces(open_source(source, broken), detector, history, broken, tags, os.fspath(source), pictures)


class _UnknownRows:
    """The rows of unknown layout at the beginning of a file, until a row of it has a known one."""

    def __init__(self) -> None:
        self._label: str | None = None
        self._error: UnknownLayoutError | None = None
        self._count = 0

    def known(self, row: Row) -> None:
        self.next_file(row.label)
        self._error = None
        self._count = -1  # a file with one known row is not given up

    def add(self, row: Row, error: UnknownLayoutError) -> None:
        self.next_file(row.label)
        if self._count >= 0:
            self._error = self._error or error
            self._count += 1
            if self._count == _UNKNOWN_ROWS:
                raise error

    def next_file(self, label: str | None) -> None:
        """Raise the error of the file before, if none of its rows had a known layout."""
        if label != self._label:
            if self._error is not None:
                raise self._error
            self._label, self._count = label, 0


def _traces(
    rows: Iterator[Row],
    detector: LayoutDetector,
    history: str,
    broken: OnBroken,
    translate: TagTranslator,
    source: str,
    pictures: ImageSettings,
) -> Iterator[RawTrace]:
    unknown = _UnknownRows()
    with close_rows(rows):
        for row in rows:
            name = "unknown"
            try:
                taken = take_images(row.values, *folders_of(source, row.label), pictures)
                values = translate(normal_row(taken.values))
                adapter = detector(row, values)
                unknown.known(row)
                name = adapter.name
                traces = taken.of(adapter.traces(values, history), pictures.keep)
            except SourceError as error:
                if nested := _inner_rows(row, error):
                    unknown.known(row)
                    yield from _traces(
                        (each for each in nested), detector, history, broken, translate, source, pictures
                    )
                    continue
                if isinstance(error, UnknownLayoutError):
                    unknown.add(row, error)
                    broken(BrokenRow(row.label, row.number, str(error)))
                    continue
                broken(BrokenRow(row.label, row.number, f"{row.where} (layout {name}): {error} {FIX}"))
                continue
            for trace in traces:
                yield _storable(replace(trace, source=row.where))
    unknown.next_file(None)


def _storable(trace: RawTrace) -> RawTrace:
    """The trace with texts that UTF-8 can store, whichever columns they were put together from."""
    names = ("context", "task", "thought", "answer", "reference", "domain")
    changed: dict[str, Any] = {name: storable(text) for name in names if (text := getattr(trace, name))}
    for name in ("steps", "captions"):
        if texts := getattr(trace, name):
            changed[name] = [storable(text) for text in texts]
    return replace(trace, **changed)


def _inner_rows(row: Row, error: SourceError) -> list[Row]:
    """The rows of a layout in an object that could not be read as a row; empty if there are none."""
    for find in (rows_of_columns, nested_rows) if isinstance(error, UnknownLayoutError) else (rows_of_columns,):
        found = find(row)
        if found and detect(found[0].values) is not None:
            return found
    return []


def trace_to_record(trace: RawTrace) -> Record:
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
        images=trace.images,
        captions=trace.captions,
    )


def read_records(source: str | os.PathLike[str], schema: str | None = None, **options: Any) -> Iterator[Record]:
    """Stream the records of a source, unfiltered: `trace_to_record` of what `read_traces` gives.

    `options` are those of `read_traces`: `history`, `skip_broken`, `on_broken`.
    """
    return map(trace_to_record, read_traces(source, schema, **options))
