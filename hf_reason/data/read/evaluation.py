"""Evaluation files: problems with their answers, with or without chains, in every layout.

Training data need a chain; evaluation files often hold questions and answers only, or questions alone where they are
only compared with (decontamination). What no layout of layouts.py fits is read by the usual names of these columns.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hf_reason.data.record import RawTrace

from .columns import answer_of, domain_hint
from .detection import LayoutDetector, layout_of
from .dialogues import check_history, is_dialogue, user_text
from .files import close_rows, open_source
from .normal_rows import normal_row
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError, refuse

# Columns that hold the problem, and the answer to it, in the order of preference.
_PROBLEM = ("question", "problem", "context", "prompt", "instruction", "input", "query", "text", "Question", "title")
_ANSWER = "answer|reference_answer|answer_num|ground_truth|target|gold|label|solution|response|output|Answer"
_DIALOGUES = ("messages", "conversations", "prompt")
_OPTION_LISTS = ("options", "choices")
_LETTERS = "ABCDEFGHIJ"


def read_problems(source: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """The problems of an evaluation file, each with its place (`"cmath.jsonl#12"`). Answers are not needed.

    Besides what `open_source` reads, a file may hold JSON strings, one object with a list of rows in it, or plain text
    with a problem on each line.

    Raises:
        SourceError: a source that cannot be read, or a row without a problem.
    """
    for row in _rows(source, refuse):
        values = normal_row(row.values)
        text = _dialogue_text(values) or _layout_text(values) or _column_text(values)
        if text is None:
            raise SourceError(
                f"{row.where}: no problem in it: none of the columns {', '.join(_PROBLEM)} holds text. It has "
                f"{', '.join(map(str, row.values)) or 'none'}."
            )
        yield row.where, text


def read_evaluation_traces(
    source: str | os.PathLike[str], schema: str | None, history: str, on_broken: OnBroken
) -> Iterator[RawTrace]:
    """The rows of a source as traces to evaluate on: `answer` is the correct answer, and the chain may be empty.

    Options (columns A, B, C, ... or a list `options` or `choices`) are added to the problem.

    Args:
        source: As for `read_traces`, or a file with one object that has a list of rows in it.
        schema, history: As for `read_traces`.
        on_broken: Called with each row that cannot be read or has no problem or no answer, for example `refuse`.

    Raises:
        SourceError: a source that cannot be read, an unknown schema or history, or what `on_broken` raises.
    """
    detector = LayoutDetector(schema)
    check_history(history)
    for row in _rows(source, on_broken):
        try:
            traces = _traces(row, normal_row(row.values), detector, history)
        except SourceError as error:
            on_broken(BrokenRow(row.label, row.number, f"{row.where}: {error} {FIX}"))
            continue
        for trace in traces:
            yield replace(trace, source=row.where)


def _traces(row: Row, values: dict[str, Any], detector: LayoutDetector, history: str) -> list[RawTrace]:
    try:
        traces = detector(row, values).traces(values, history)
    except SourceError:
        problem, answer = _dialogue_text(values) or _column_text(values), answer_of(values, _ANSWER).strip()
        if problem is None or not answer:
            raise
        traces = [RawTrace(problem, thought="", answer=answer, domain=domain_hint(values))]
    found = []
    for trace in traces:
        options = _options(values)
        answer = (trace.reference or trace.answer).strip() or answer_of(values, _ANSWER).strip()
        if options and answer.isdigit() and int(answer) < len(options) and not isinstance(values.get("answer"), str):
            answer = _LETTERS[int(answer)]  # the index of the right option, as MMLU has it
        if not answer:
            raise SourceError("it has no answer, so that nothing could be compared with it.")
        context = trace.context
        if options and options[0] not in context:
            context += "".join(f"\n{letter}. {option}" for letter, option in zip(_LETTERS, options, strict=False))
        found.append(replace(trace, context=context, answer=answer))
    return found


def _options(values: dict[str, Any]) -> list[str]:
    for name in _OPTION_LISTS:
        options = values.get(name)
        if isinstance(options, list) and options and all(isinstance(option, str) for option in options):
            return options
    lettered = [values[letter] for letter in _LETTERS if isinstance(values.get(letter), str)]
    return lettered if len(lettered) > 1 else []


def _rows(source: str | os.PathLike[str], broken: OnBroken) -> Iterator[Row]:
    """The rows of a source; one object that is not a row itself is replaced by the list of rows in it."""
    with close_rows(open_source(source, broken, texts=True)) as rows:
        for row in rows:
            inner = _inner_rows(row)
            if inner is None:
                yield row
                continue
            for number, value in enumerate(inner, 1):
                yield Row(row.label, number, value if isinstance(value, dict) else {"text": value})


def _inner_rows(row: Row) -> list[Any] | None:
    values = normal_row(row.values)
    if layout_of(values) is not None or _dialogue_text(values) or _column_text(values):
        return None
    lists = (value for value in row.values.values() if isinstance(value, list) and value)
    return next((found for found in lists if all(isinstance(item, dict | str) for item in found)), None)


def _dialogue_text(values: dict[str, Any]) -> str | None:
    """What the user says in a dialogue."""
    for name in _DIALOGUES:
        if is_dialogue(values.get(name)):
            return user_text(values[name])
    return None


def _layout_text(values: dict[str, Any]) -> str | None:
    """Context and task by the layout, all parts of the problem together."""
    adapter = layout_of(values)
    try:
        traces = adapter.traces(values) if adapter is not None else []
    except SourceError:
        return None
    return f"{traces[0].context}\n{traces[0].task}".strip() or None if traces else None


def _column_text(values: dict[str, Any]) -> str | None:
    """The first column that usually holds the problem, and the `input` of an instruction."""
    for name in _PROBLEM:
        text = values.get(name)
        if isinstance(text, str) and text.strip():
            more = values.get("input") if name == "instruction" else None
            return f"{text}\n\n{more}" if isinstance(more, str) and more.strip() else text
    return None
