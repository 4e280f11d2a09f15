"""Evaluation files: problems with their answers, with or without chains, in every layout.

Training data need a chain; evaluation files often hold questions and answers only, or questions alone where they are
only compared with (decontamination). What no layout of layouts.py fits is read by the usual names of these columns.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hf_reason.data.record import RawTrace

from .columns import answer_of, domain_hint
from .detection import LayoutDetector, UnknownLayoutError, layout_of
from .dialogues import check_history, is_dialogue, user_text
from .files import close_rows, open_source
from .image_checks import check_images
from .image_columns import ImageSettings, folders_of, take_images
from .nested_rows import nested_rows, rows_of_columns
from .normal_rows import normal_row
from .options import label_at, label_of, options_of, with_options
from .other_tags import TagTranslator
from .rows import FIX, BrokenRow, OnBroken, Row, SourceError, refuse

# Columns that hold the problem, and the answer to it, in the order of preference.
_PROBLEM = ("question", "problem", "context", "prompt", "instruction", "input", "query", "text", "title", "inputs")
_ANSWER = (
    "answer|reference_answer|answer_num|ground_truth|target|gold|label|expected_answer|correct_answer|answerKey|"
    "answer_key|correct_option|answer_idx|answer_index|cop|ideal|golden_answer|golden_answers|gold_answer|ref_answer|"
    "reference|targets|answers|solution|response|output"
)
# Objects that hold the answer for a reward.
_HOLDERS = ("reward_model", "extra_info", "answer", "answers", "metadata")
_DIALOGUES = ("messages", "conversations", "prompt", "input", "question")
# Columns that hold a passage that the question is about; `normal_row` gives its other names this one.
_PASSAGES = ("context",)


def read_problems(source: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """The problems of an evaluation file with all their parts, each with its place (`"cmath.jsonl#12"`).

    Answers are not needed. Options follow the problem, one a line; a passage precedes its question.
    Besides what `open_source` reads, a file may hold JSON strings, one object with a list of rows in it, or plain text
    with a problem on each line.

    Raises:
        SourceError: a source that cannot be read, or a row without a problem.
    """
    for row in _rows(source, refuse):
        values = normal_row(row.values)
        text = _dialogue_text(values) or _layout_text(values)
        text = text or _column_text(values)
        if text is None:
            raise SourceError(
                f"{row.where}: no problem in it: none of the columns {', '.join(_PROBLEM)} holds text. It has "
                f"{', '.join(map(str, row.values)) or 'none'}."
            )
        yield row.where, with_options(text, options_of(values))


def read_evaluation_traces(
    source: str | os.PathLike[str],
    schema: str | None,
    history: str,
    on_broken: OnBroken,
    thought_tags: Sequence[str] = (),
    answers_needed: bool = True,
) -> Iterator[RawTrace]:
    """The rows of a source as traces to evaluate on: `answer` is the correct answer, and the chain may be empty.

    Options (`options_of`) are part of the problem; an answer that is the index or the text of one is its label.

    Args:
        source: As for `read_traces`, or a file with one object that has a list of rows in it.
        schema, history: As for `read_traces`.
        on_broken: Called with each row that cannot be read or has no problem or no answer, for example `refuse`.
        thought_tags: As for `read_traces`.
        answers_needed: `False`: a row without an answer is a problem, too; its `answer` is empty.

    Raises:
        SourceError: a source that cannot be read, an unknown schema or history, or what `on_broken` raises.
    """
    detector = LayoutDetector(schema)
    check_history(history)
    translate = TagTranslator(thought_tags)
    pictures = ImageSettings()
    for row in _rows(source, on_broken):
        try:
            taken = take_images(row.values, *folders_of(os.fspath(source), row.label), pictures)
            traces = _traces(row, translate(normal_row(taken.values)), detector, history, answers_needed)
        except UnknownLayoutError as error:  # which names the row itself
            on_broken(BrokenRow(row.label, row.number, str(error)))
            continue
        except SourceError as error:
            on_broken(BrokenRow(row.label, row.number, f"{row.where}: {error} {FIX}"))
            continue
        for trace in taken.of(traces, pictures.keep):
            if trace.images and (fault := check_images(trace)[1]):
                on_broken(BrokenRow(row.label, row.number, f"{row.where}: {fault} {FIX}"))
                continue
            yield replace(trace, source=row.where)


def _traces(
    row: Row, values: dict[str, Any], detector: LayoutDetector, history: str, answers_needed: bool
) -> list[RawTrace]:
    options = options_of(values)
    try:
        traces = detector(row, values).traces(values, history)
    except SourceError:
        problem, answer = _dialogue_text(values) or _column_text(values), _known_answer(values, options)
        if problem is None or (answers_needed and not answer):
            raise
        traces = [RawTrace(with_options(problem, options), thought="", answer=answer, domain=domain_hint(values))]
    found = []
    for trace in traces:
        answer = (trace.reference or trace.answer).strip("\n").rstrip() or _known_answer(values, options)
        if answers_needed and not answer.strip():
            raise SourceError("it has no answer, so that nothing could be compared with it.")
        found.append(replace(trace, answer=label_of(options, answer) or answer))
    return found


def _known_answer(values: dict[str, Any], options: list[tuple[str, str]]) -> str:
    """The correct answer in any column that usually holds it, or in an object for the reward; empty without one."""
    name = next((name for name in _ANSWER.split("|") if values.get(name) not in (None, "", [])), "")
    value = values.get(name)
    if isinstance(value, dict) or not name:
        holders = [values[holder] for holder in _HOLDERS if isinstance(values.get(holder), dict)]
        inner = [each[key] for each in holders for key in ("ground_truth", "answer", "text", "value") if each.get(key)]
        value = inner[0] if inner else None
    if isinstance(value, list) and len(value) > 1 and name in ("answers", "golden_answers"):
        value = value[:1]  # several ways to write one answer
    index = int(str(value)) if name == "label" and str(value).isdigit() else value
    if (label := label_at(options, index)) is not None:
        return label
    return str(value) if isinstance(value, bool) else answer_of({"answer": value}, "answer").strip()


def _rows(source: str | os.PathLike[str], broken: OnBroken) -> Iterator[Row]:
    """The rows of a source; one object that is not a row itself is replaced by the list of rows in it."""
    with close_rows(open_source(source, broken, texts=True)) as rows:
        for row in rows:
            if (table := rows_of_columns(row)) and _holds_problem(normal_row(table[0].values)):
                yield from table
                continue
            values = normal_row(row.values)
            if _holds_problem(values):
                yield row
            else:
                yield from nested_rows(row, texts=True) or [row]


def _holds_problem(values: dict[str, Any]) -> bool:
    return layout_of(values) is not None or bool(_dialogue_text(values) or _column_text(values))


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
    """The first column that usually holds the problem, with the `input` of an instruction and a question's passage."""
    for name in _PROBLEM:
        text = values.get(name)
        if isinstance(text, str) and text.strip():
            parts = [text, values.get("input")] if name == "instruction" else [text]
            parts = [*(values.get(passage) for passage in _PASSAGES if passage != name), *parts]
            return "\n\n".join(part for part in parts if isinstance(part, str) and part.strip())
    return None
