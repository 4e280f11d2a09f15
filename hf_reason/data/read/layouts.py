"""One adapter for each layout of published reasoning data: a row of columns -> traces.

`ADAPTERS` is in the order of detection, the most specific layout first. An adapter names the columns it needs;
`a|b` means either. Columns that hold lists only match lists, so that a column `steps` which counts them (an
integer) is not taken for a chain. Chinese names of columns are translated before (chinese_columns.py).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hf_reason.answers.equations import format_number, steps_from_equation, write_like
from hf_reason.data.record import RawTrace

from .columns import Values, answer_of, domain_hint, short_reference, text_of
from .dialogues import dialogue_traces
from .rows import SourceError
from .think_tags import join_thought, split_thought, without_prefill

Convert = Callable[[Values, str], list[RawTrace]]
_QUESTION = "question|problem|prompt|query|instruction"
_CONTEXT = f"context|{_QUESTION}"
_ANSWER = "answer|response|output"
_THOUGHT = "reasoning|thought|thinking|cot|rationale|thought_process|chain_of_thought|reasoning_content"


@dataclass(frozen=True)
class Adapter:
    """A layout.

    Attributes:
        name: What `schema` calls it.
        wants: The columns that make a row one of this layout; `a|b` means either.
        convert: `(row, history)` -> its traces.
        lists: Those of `wants` whose values must be lists.
        domain: The domain of every row, if no column says otherwise.
    """

    name: str
    wants: tuple[str, ...]
    convert: Convert
    lists: tuple[str, ...] = ()
    domain: str | None = None

    def missing(self, row: Values) -> list[str]:
        """The columns that `row` lacks for this layout."""

        def there(want: str) -> bool:
            names = [name for name in want.split("|") if name in row]
            return any(want not in self.lists or isinstance(row[name], list) for name in names)

        return [want for want in self.wants if not there(want)]

    def matches(self, row: Values) -> bool:
        return not self.missing(row)

    def traces(self, row: Values, history: str = "drop") -> list[RawTrace]:
        """The traces of a row, with its domain hint.

        Raises:
            SourceError: naming the field that cannot be used.
        """
        hint = domain_hint(row) or self.domain
        return [replace(trace, domain=trace.domain or hint) for trace in self.convert(row, history)]


def _columns(question: str, thought: str, answer: str, reference: str | None = None, whole: bool = False) -> Convert:
    """A layout with a column each for question, thought and answer; `task` is read where the question has none."""

    def convert(row: Values, history: str) -> list[RawTrace]:
        parts = join_thought(text_of(row, thought), answer_of(row, answer))
        known = answer_of(row, reference) if reference else ""
        context = text_of(row, question, required=True)
        if next(name for name in question.split("|") if name in row) == "instruction":
            context = _with_input(row, context)
        return [
            RawTrace(
                context=context,
                task=text_of(row, "task") if question == "context" else "",
                thought=parts.thought,
                answer=parts.answer,
                reference=(known or None) if whole else short_reference(known),
            )
        ]

    return convert


def _with_input(row: Values, question: str) -> str:
    """A question or an instruction with the `input` that it is about."""
    more = text_of(row, "input").strip()
    return f"{question}\n\n{more}" if more else question


def _message(question: str, message: str, reference: str | None = None) -> Convert:
    """A layout with thought and answer in one column; an instruction may have an `input`."""

    def convert(row: Values, history: str) -> list[RawTrace]:
        parts = split_thought(text_of(row, message))
        context = text_of(row, question, required=True)
        if question != "input":
            context = _with_input(row, context)
        known = short_reference(answer_of(row, reference)) if reference and reference in row else None
        return [RawTrace(without_prefill(context), "", parts.thought, None, parts.answer, known, closed=parts.closed)]

    return convert


def _dialogue(field: str) -> Convert:
    def convert(row: Values, history: str) -> list[RawTrace]:
        return dialogue_traces(row[field], history, field=field, system=text_of(row, "system"), tools=row.get("tools"))

    return convert


def _flags(row: Values, column: str, count: int) -> list[Any]:
    flags = row.get(column)
    return [*flags, *[None] * count][:count] if isinstance(flags, list) else [None] * count


def _openr1(row: Values, history: str) -> list[RawTrace]:
    """The first generation that is complete and correct; else the first complete one; else the first."""
    generations = row["generations"]
    if not generations or not all(isinstance(text, str) for text in generations):
        raise SourceError("field 'generations' must be a list of texts, with at least one.")
    count = len(generations)
    verified, judged = _flags(row, "correctness_math_verify", count), _flags(row, "correctness_llama", count)
    complete = _flags(row, "is_reasoning_complete", count)
    reasons = _flags(row, "finish_reasons", count)
    whole = [flag is not False and reason in (None, "stop") for flag, reason in zip(complete, reasons, strict=True)]
    right = [bool(verified[i]) or bool(judged[i]) for i in range(count)]
    order = sorted(range(count), key=lambda i: (not (whole[i] and right[i]), not whole[i], i))
    parts = split_thought(generations[order[0]])
    context = text_of(row, "problem", required=True)
    known = answer_of(row, "answer").strip() or None
    return [RawTrace(context, "", parts.thought, None, parts.answer, known, "math", closed=parts.closed)]


def _prompt_completion(row: Values, history: str) -> list[RawTrace]:
    """TRL: two texts, or two lists of messages; the prompt may end in a prefilled assistant turn."""
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _message("prompt", "completion")(row, history)
    before = (
        prompt if isinstance(prompt, list) else [{"role": "user", "content": text_of(row, "prompt", required=True)}]
    )
    after = (
        completion if isinstance(completion, list) else [{"role": "assistant", "content": text_of(row, "completion")}]
    )
    last = before[-1] if before and isinstance(before[-1], dict) else {}
    if last.get("role") == "assistant" and after and isinstance(after[0], dict):
        joined = f"{last.get('content') or ''}{after[0].get('content') or ''}"
        before, after = before[:-1], [{**after[0], "content": joined}, *after[1:]]
    return dialogue_traces([*before, *after], history, field="prompt + completion", tools=row.get("tools"))


def _steps(row: Values, column: str = "steps") -> list[str]:
    if not all(isinstance(step, str) for step in row[column]):
        raise SourceError(f"field {column!r} must be a list of texts.")
    return [step.encode("utf-8", "replace").decode("utf-8") for step in row[column]]


def _record(row: Values, history: str) -> list[RawTrace]:
    return [
        RawTrace(
            text_of(row, "context", required=True), text_of(row, "task"), None, _steps(row), answer_of(row, "answer")
        )
    ]


def _question_steps(row: Values, history: str) -> list[RawTrace]:
    known = answer_of(row, "reference_answer").strip() or None
    context, answer = text_of(row, _CONTEXT, required=True), answer_of(row, _ANSWER)
    return [RawTrace(context, text_of(row, "task"), None, _steps(row), answer, known)]


def _article(row: Values, history: str) -> list[RawTrace]:
    """The article's own layout; without a column `answer` the last step is the conclusion."""
    steps = _steps(row)
    answer = answer_of(row, "answer") if "answer" in row else (steps[-1] if steps else "")
    return [RawTrace(text_of(row, "context", required=True), text_of(row, "task_desc"), None, steps, answer)]


def _word_problem(row: Values, history: str) -> list[RawTrace]:
    """Steps out of the equation; one that cannot be worked off step by step gives an empty thought."""
    reference = answer_of(row, "answer|ans")
    trace = RawTrace(
        text_of(row, "question|original_text", required=True),
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


def _solution(row: Values, history: str) -> list[RawTrace]:
    """A human solution: its lines are the steps, unless they are lines of a formula or a listing."""
    solution, answer = text_of(row, "solution"), answer_of(row, "answer")
    parts = join_thought("", solution)
    lines = [line for line in parts.answer.splitlines() if line.strip()]
    formal = any(mark in solution for mark in ("\\[", "$$", "\\begin", "```", "|--"))
    trace = RawTrace(text_of(row, _QUESTION, required=True), answer=answer, reference=answer or None)
    if parts.thought or formal or len(lines) < 2:
        return [replace(trace, thought=parts.thought or parts.answer, closed=parts.closed)]
    return [replace(trace, steps=lines)]


def _plain(row: Values, history: str) -> list[RawTrace]:
    """Question and answer; the answer may hold the thought in tags, or GSM8K's solution in front of `####`."""
    text = answer_of(row, _ANSWER)
    question = text_of(row, _QUESTION, required=True)
    solution, mark, answer = text.rpartition("\n#### ")
    if mark:
        lines = re.sub(r"<<[^<>]*>>", "", solution).splitlines()
        return [RawTrace(question, steps=lines, answer=answer.strip(), reference=answer.strip())]
    parts = split_thought(text)
    known = answer_of(row, "answer_num|reference_answer").strip() or None
    return [RawTrace(question, "", parts.thought, None, parts.answer, known, closed=parts.closed)]


_LAYOUTS = (
    Adapter("record", ("context", "task", "steps", "answer"), _record, lists=("steps",)),
    Adapter("article", ("context", "steps", "task_desc"), _article, lists=("steps",)),
    Adapter("openr1_math", ("problem", "generations"), _openr1, lists=("generations",), domain="math"),
    Adapter(
        "r1_distill_sft",
        ("problem", "reannotated_assistant_content"),
        _message("problem", "reannotated_assistant_content", "solution"),
    ),
    Adapter(
        "openthoughts_metadata",
        ("problem", "deepseek_reasoning", "deepseek_solution"),
        _columns("problem", "deepseek_reasoning", "deepseek_solution", "ground_truth_solution"),
    ),
    Adapter(
        "medical_o1",
        ("Question", "Complex_CoT", "Response"),
        _columns("Question", "Complex_CoT", "Response"),
        domain="medical",
    ),
    Adapter(
        "medical_r1_distill",
        ("question", "reasoning (reasoning_content)", "response (content)"),
        _columns("question", "reasoning (reasoning_content)", "response (content)"),
        domain="medical",
    ),
    Adapter(
        "general_thought",
        ("question", "model_reasoning", "model_answer"),
        _columns("question", "model_reasoning", "model_answer", "reference_answer", whole=True),
    ),
    Adapter(
        "s1k",
        ("question", "deepseek_thinking_trajectory", "deepseek_attempt"),
        _columns("question", "deepseek_thinking_trajectory", "deepseek_attempt", "solution"),
    ),
    Adapter("petro_r1", ("question", "thought_process", "answer"), _columns("question", "thought_process", "answer")),
    Adapter("long_form_thought", ("question", "combined_text"), _message("question", "combined_text")),
    Adapter(
        "congliu_r1", ("input", "reasoning_content", "content"), _columns("input", "reasoning_content", "content")
    ),
    Adapter("openthoughts", ("system", "conversations"), _dialogue("conversations"), lists=("conversations",)),
    Adapter(
        "magpie_r1", ("instruction", "response", "conversations"), _dialogue("conversations"), lists=("conversations",)
    ),
    Adapter("conversations", ("conversations",), _dialogue("conversations"), lists=("conversations",)),
    Adapter("messages", ("messages",), _dialogue("messages"), lists=("messages",)),
    Adapter("prompt_completion", ("prompt", "completion"), _prompt_completion),
    Adapter("instruction_input_output", ("instruction", "input", "output"), _message("instruction", "output")),
    Adapter("instruction_response", ("instruction", "response"), _message("instruction", "response")),
    Adapter("instruction_output", ("instruction", "output"), _message("instruction", "output")),
    Adapter("input_output", ("input", "output"), _message("input", "output")),
    Adapter(
        "question_reasoning_answer",
        (_QUESTION, _THOUGHT, "answer|response|content"),
        _columns(_QUESTION, _THOUGHT, "answer|response|content", "reference_answer", whole=True),
    ),
    Adapter(
        "context_reasoning_answer",
        ("context", _THOUGHT, "answer|response|content"),
        _columns("context", _THOUGHT, "answer|response|content", "reference_answer", whole=True),
    ),
    Adapter("word_problem", ("question|original_text", "equation", "answer|ans"), _word_problem, domain="math"),
    Adapter("question_solution_answer", (_QUESTION, "solution", "answer"), _solution, domain="math"),
    Adapter("question_steps_answer", (_CONTEXT, "steps", _ANSWER), _question_steps, lists=("steps",)),
    Adapter("question_answer", (_QUESTION, _ANSWER), _plain),
)
ADAPTERS: dict[str, Adapter] = {adapter.name: adapter for adapter in _LAYOUTS}
LAYOUTS = tuple(ADAPTERS)
