"""Rows of one layout -> traces: the functions that the adapters (layouts.py) are made of."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hf_reason.answers.equations import format_number, steps_from_equation, write_like
from hf_reason.data.record import RawTrace

from .columns import Values, answer_of, problem_of, short_reference, storable, text_of
from .dialogues import dialogue_traces
from .messages import as_messages, content_of, role_of
from .reasoning import find_reasoning, reasoning_text
from .rows import SourceError
from .think_tags import Thought, join_thought, split_thought, without_prefill
from .truncation import generations_cut

Convert = Callable[[Values, str], list[RawTrace]]
QUESTION = "question|problem|prompt|query|instruction"
CONTEXT = f"context|{QUESTION}"
ANSWER = "answer|response|output"
THOUGHT = "reasoning|thought|thinking|cot|rationale|thought_process|chain_of_thought|reasoning_content"


def from_columns(
    question: str, thought: str, answer: str, reference: str | None = None, whole: bool = False
) -> Convert:
    """A layout with a column each for question, thought and answer; `task` is read where the question has none."""

    def convert(row: Values, history: str) -> list[RawTrace]:
        name = next((name for name in thought.split("|") if row.get(name)), thought.split("|")[0])
        found = reasoning_text(row.get(name), name)
        parts = join_thought(found if isinstance(found, str) else "", answer_of(row, answer))
        known = answer_of(row, reference) if reference else ""
        return [
            RawTrace(
                context=problem_of(row, question),
                task=text_of(row, "task") if question == "context" else "",
                thought=parts.thought if isinstance(found, str) else None,
                steps=None if isinstance(found, str) else found,
                answer=parts.answer,
                reference=(known or None) if whole else short_reference(known),
            )
        ]

    return convert


def _message(row: Values, text: str) -> Thought:
    """Thought and answer of a text; a reasoning column besides it is the thought."""
    found = find_reasoning(row)
    return join_thought(found, text) if isinstance(found, str) and found else split_thought(text)


def from_message(question: str, message: str, reference: str | None = None) -> Convert:
    """A layout with thought and answer in one column; an instruction may have an `input`."""

    def convert(row: Values, history: str) -> list[RawTrace]:
        parts = _message(row, answer_of(row, message))
        context = problem_of(row, question)
        known = short_reference(answer_of(row, reference)) if reference and reference in row else None
        return [RawTrace(without_prefill(context), "", parts.thought, None, parts.answer, known, closed=parts.closed)]

    return convert


def from_dialogue(field: str) -> Convert:
    """A layout with a list of messages."""

    def convert(row: Values, history: str) -> list[RawTrace]:
        messages = [*_earlier(row), *(as_messages(row[field], field) or row[field])]
        return dialogue_traces(messages, history, field=field, system=text_of(row, "system"), tools=row.get("tools"))

    return convert


def _earlier(row: Values) -> list[Any]:
    """The turns of a column of their own before a dialogue."""
    return as_messages(row.get("history"), "history") or []


def _flags(row: Values, column: str, count: int) -> list[Any]:
    flags = row.get(column)
    return [*flags, *[None] * count][:count] if isinstance(flags, list) else [None] * count


def openr1(row: Values, history: str) -> list[RawTrace]:
    """Several generations: the first that is complete and correct; else the first complete one; else the first."""
    generations = row["generations"]
    if not generations or not all(isinstance(text, str) for text in generations):
        raise SourceError("field 'generations' must be a list of texts, with at least one.")
    count = len(generations)
    verified, judged = _flags(row, "correctness_math_verify", count), _flags(row, "correctness_llama", count)
    complete = _flags(row, "is_reasoning_complete", count)
    whole = [flag is not False and not cut for flag, cut in zip(complete, generations_cut(row, count), strict=True)]
    right = [bool(verified[i]) or bool(judged[i]) for i in range(count)]
    order = sorted(range(count), key=lambda i: (not (whole[i] and right[i]), not whole[i], i))
    parts = split_thought(generations[order[0]])
    return [
        RawTrace(
            problem_of(row, QUESTION),
            thought=parts.thought,
            answer=parts.answer,
            reference=answer_of(row, "answer").strip() or None,
            domain="math" if "problem" in row else None,
            closed=parts.closed,
            truncated=not whole[order[0]],
        )
    ]


def prompt_completion(row: Values, history: str) -> list[RawTrace]:
    """TRL: two texts, or two lists of messages; the prompt may end in a prefilled assistant turn."""
    prompt, completion = row["prompt"], row["completion"]
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return from_message("prompt", "completion")(row, history)
    before = prompt if isinstance(prompt, list) else [{"role": "user", "content": problem_of(row, "prompt")}]
    after = (
        completion if isinstance(completion, list) else [{"role": "assistant", "content": text_of(row, "completion")}]
    )
    last = before[-1] if before and isinstance(before[-1], dict) else {}
    if role_of(last) == "assistant" and after and isinstance(after[0], dict):
        joined = f"{content_of(last) or ''}{content_of(after[0]) or ''}"
        before, after = before[:-1], [{**after[0], "content": joined}, *after[1:]]
    messages = [*_earlier(row), *before, *after]
    system = text_of(row, "system")
    return dialogue_traces(messages, history, field="prompt + completion", system=system, tools=row.get("tools"))


def _steps(row: Values, column: str = "steps") -> list[str]:
    if not all(isinstance(step, str) for step in row[column]):
        raise SourceError("field 'generations' must be a list of texts.")
    return [storable(step) for step in row[column]]


def record(row: Values, history: str) -> list[RawTrace]:
    """The project's own records; `hf-reason generate-traces` writes the known answer beside the teacher's."""
    context, known = text_of(row, "context", required=True), answer_of(row, "reference_answer").strip() or None
    return [RawTrace(context, text_of(row, "task"), None, _steps(row), answer_of(row, "answer"), known)]


def question_steps(row: Values, history: str) -> list[RawTrace]:
    """A question, a list of steps and an answer."""
    known = answer_of(row, "reference_answer").strip() or None
    context, answer = problem_of(row, CONTEXT), answer_of(row, ANSWER)
    return [RawTrace(context, text_of(row, "task"), None, _steps(row), answer, known)]


def article(row: Values, history: str) -> list[RawTrace]:
    """The article's own layout; without a column `answer` the last step is the conclusion."""
    steps = _steps(row)
    answer = answer_of(row, "answer") if "answer" in row else (steps[-1] if steps else "")
    return [RawTrace(text_of(row, "context", required=True), text_of(row, "task_desc"), None, steps, answer)]


def word_problem(row: Values, history: str) -> list[RawTrace]:
    """Steps out of the equation; one that cannot be worked off step by step gives an empty thought."""
    reference = answer_of(row, "answer|ans")
    trace = RawTrace(
        problem_of(row, "question|original_text"),
        thought="",
        answer=answer_of(row, "answer_num").strip() or reference,
        reference=reference or None,
    )
    try:
        steps, value = steps_from_equation(text_of(row, "equation"), answer=reference or trace.answer)
    except ValueError as error:
        if isinstance(error, SourceError):
            raise
        return [trace]
    # The chain's own result, so that the check against the reference finds an equation that does not fit.
    result = steps[-1].rpartition("=")[2] if steps else write_like(value, reference) or format_number(value)
    return [replace(trace, thought=None, steps=steps, answer=result)]


def solution(row: Values, history: str) -> list[RawTrace]:
    """A human solution: its lines are the steps, unless they are lines of a formula or a listing."""
    text, answer = text_of(row, "solution"), answer_of(row, "answer")
    parts = join_thought("", text)
    lines = [line for line in parts.answer.splitlines() if line.strip()]
    formal = any(mark in text for mark in ("\\[", "$$", "\\begin", "```", "|--"))
    trace = RawTrace(problem_of(row, QUESTION), answer=answer, reference=answer or None)
    if parts.thought or formal or len(lines) < 2:
        return [replace(trace, thought=parts.thought or parts.answer, closed=parts.closed)]
    return [replace(trace, steps=lines)]


def plain(row: Values, history: str) -> list[RawTrace]:
    """Question and answer; the answer may hold the thought in tags."""
    parts = _message(row, answer_of(row, ANSWER))
    known = answer_of(row, "answer_num|reference_answer").strip() or None
    return [RawTrace(problem_of(row, QUESTION), "", parts.thought, None, parts.answer, known, closed=parts.closed)]


_MARK = re.compile(r"(?P<solution>.*\S)\s*\n####(?!#)[ \t]*(?P<value>[^\n]{1,60})\s*", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} ", re.MULTILINE)
# A heading is numbered or ends in a colon; a value is not.
_TITLE = re.compile(r"(?:[一二三四五六七八九十]+[、.．]|\d+[.、．] *[^\d\s]|第.{1,3}[章节步]|.*[:：]\Z)")


def marked_solution(text: str) -> tuple[list[str], str] | None:
    """The steps and the answer of GSM8K's form, whose last line is `#### value`; `None` for any other text.

    In a text with other headings, `####` begins a heading of Markdown.
    """
    found = _MARK.fullmatch(text) if "####" in text else None
    if found is None or _HEADING.search(found["solution"]) or "####" in found["solution"]:
        return None
    if _TITLE.match(found["value"].strip()):
        return None
    return re.sub(r"<<[^<>\n]*>>", "", found["solution"]).splitlines(), found["value"].strip()
