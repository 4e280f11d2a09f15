"""A row as the file has it -> the same row in the terms of the layouts.

Wrappers go, columns get their usual names, cells without a value become `None`, lists that are written as text become
lists, an API's answer becomes a dialogue, and so does a prompt of messages with its answer in another column. What a
column holds is not changed otherwise.
"""

import math
from functools import lru_cache
from typing import Any

from hf_reason.answers.forms import boxed

from .chinese_columns import english_columns
from .column_names import renamed, respelled
from .completions import unpacked
from .converters import THOUGHT
from .layouts import ADAPTERS
from .literals import parsed
from .messages import as_messages, content_of, is_message, role_of
from .reasoning import is_switch, reasoning_names

# Columns whose text is a list when it is written like one.
_LISTS = frozenset(
    (
        *(
            "steps",
            "generations",
            "responses",
            "completions",
            "options",
            "choices",
            "tools",
            "reasoning_details",
            "reasoning_steps",
        ),
        *("finish_reasons", "is_reasoning_complete", "correctness_math_verify", "correctness_llama"),
    )
)
_DIALOGUES = ("messages", "conversations", "history", "prompt", "completion")
# Keys of an object of passages: PubMedQA, HotpotQA.
_PASSAGES = ("contexts", "sentences", "paragraphs", "passages", "text", "content", "context")
_QUESTIONS = ("question", "problem", "query", "instruction")
_ANSWERS = ("answer", "response", "output", "completion", "content", "solution", "target", "ground_truth")
_SAID = ("answer", "response", "output", "completion", "content", "final_answer", "model_answer", "reference_answer")
# A shorter text under `steps` is no chain.
_SHORTEST = 20
# What stands for a missing value where text is expected; an answer may say "None".
_MISSING = frozenset(("nan", "NaN", "<NA>", "NaT", "None", "null", "NULL"))
_MISSING_ANSWERS = frozenset(("nan", "<NA>", "NaT"))
_KNOWN = frozenset(name for adapter in ADAPTERS.values() for want in adapter.wants for name in want.split("|"))


def normal_row(values: dict[str, Any]) -> dict[str, Any]:
    """The row in the terms of the layouts.

    Raises:
        SourceError: for a dialogue in a shape that is known but broken.
    """
    if isinstance(values.get("row"), dict) and isinstance(values.get("layout"), str):
        values = values["row"]
    values = english_columns(values)
    row = _with_names(values, _respelled(tuple(values)))
    switches = [name for name in reasoning_names(tuple(row)) if is_switch(name, row[name])]
    for name in switches:
        del row[name]
    row = _with_chain(row)
    row = _with_names(row, _renamed(tuple(row)))
    row = _with_passage(row)
    return _one_dialogue(unpacked({name: _cell(name, value) for name, value in row.items()}))


def _with_names(row: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in row.items()}


def _with_chain(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose chain is a text under `steps`, or a solution that ends in a box, in columns that layouts read."""
    steps, solution, columns = row.get("steps"), row.get("solution"), tuple(row)
    if _has_chain(columns):
        return row
    if isinstance(steps, str) and len(steps) >= _SHORTEST and steps.lstrip()[:1] != "[":
        return {**{name: value for name, value in row.items() if name != "steps"}, "reasoning": steps}
    alone = isinstance(solution, str) and not _fits(columns) and not any(row.get(name) for name in _SAID)
    return {**row, "answer": answer} if alone and (answer := boxed(solution)) else row  # type: ignore[arg-type]


def _with_passage(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose `context` is a list with a dialogue or passages as its history or one passage.

    So is one whose `input` is a dialogue.
    """
    context, asked = row.get("context"), row.get("input")
    if isinstance(asked, list) and asked and all(map(is_message, asked)) and "prompt" not in row:
        row = {"prompt" if name == "input" else name: value for name, value in row.items()}
    if not isinstance(context, list | dict) or not any(row.get(name) for name in (*_QUESTIONS, "prompt")):
        return row
    rest = {name: value for name, value in row.items() if name != "context"}
    plain = isinstance(context, list) and all(isinstance(item, str) for item in context)
    turns = None if plain else as_messages(context, "context")
    if turns and all(map(is_message, turns)) and not row.get("history"):
        return rest | {"history": turns}
    passage = "\n\n".join(_texts(context))
    return rest | {"context": passage} if passage else rest


def _texts(value: Any) -> list[str]:
    """The texts in nested lists, and in objects of the lists that data sets of passages have."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        value = next((value[name] for name in _PASSAGES if value.get(name)), [])
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


@lru_cache(maxsize=512)
def _has_chain(columns: tuple[str, ...]) -> bool:
    return bool(reasoning_names(columns))


@lru_cache(maxsize=512)
def _fits(columns: tuple[str, ...]) -> bool:
    """Whether a layout has columns of these names."""
    row = dict.fromkeys(columns)
    return any(not adapter.missing(row, types=False) for adapter in ADAPTERS.values())


@lru_cache(maxsize=512)
def _respelled(columns: tuple[str, ...]) -> dict[str, str]:
    return respelled(columns, _KNOWN)


@lru_cache(maxsize=512)
def _renamed(columns: tuple[str, ...]) -> dict[str, str]:
    return renamed(columns, _fits(columns), THOUGHT.split("|"))


def _cell(name: str, value: Any) -> Any:
    """A cell without what only stands for a missing value, and with lists as lists."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, str):
        if len(value) < 5 and value in (_MISSING_ANSWERS if name in _ANSWERS else _MISSING):
            return None
        if name in _LISTS:
            found = parsed(value)
            return list(found) if isinstance(found, tuple) else found
    if name in _DIALOGUES and value and (not isinstance(value, str) or value.lstrip()[:1] in ("[", "{", "a", "(")):
        return _dialogue(name, value)
    return value


def _dialogue(name: str, value: Any) -> Any:
    """A dialogue as a list of messages; a text that is none, and lists that fit no shape, as they are."""
    if name in ("prompt", "completion"):  # which may be a text that begins like a list
        found = parsed(value) if isinstance(value, str) else value
        if not isinstance(found, dict) and not (isinstance(found, list) and found and all(map(is_message, found))):
            return value
    messages = as_messages(value, name)
    return value if messages is None or not all(map(is_message, messages)) and isinstance(value, str) else messages


def _one_dialogue(row: dict[str, Any]) -> dict[str, Any]:
    """A prompt of messages with its answer in a column of its own as one dialogue; turns before a question as history.

    A row whose messages hold question and answer, or that has no answer besides, stays as it is.
    """
    name = next((n for n in ("messages", "conversations", "prompt") if _ends(row.get(n)) is not None), None)
    if name is None or (name == "prompt" and isinstance(row.get("completion"), list)):
        return row
    answer = next((n for n in _ANSWERS if isinstance(row.get(n), str | int | float) and row[n] != ""), None)
    kinds = frozenset((n, isinstance(value, list)) for n, value in row.items())
    if answer is None or not (name == "prompt" or _is_dialogue(kinds)):
        return row
    messages = row[name]
    asked = next((row[n] for n in _QUESTIONS if isinstance(row.get(n), str) and row[n].strip()), None)
    said = [text for turn in messages if isinstance(text := content_of(turn), str)]
    if asked is not None and name != "prompt" and not any(asked.strip() in text for text in said):
        return {**{n: value for n, value in row.items() if n != name}, "history": messages}
    if _ends(messages) == "assistant":
        return row
    rest = {n: value for n, value in row.items() if n not in (name, answer)}
    return {**rest, "messages": [*messages, {"role": "assistant", "content": str(row[answer])}]}


@lru_cache(maxsize=512)
def _is_dialogue(kinds: frozenset[tuple[str, bool]]) -> bool:
    """Whether rows of these columns, lists or not, have a layout of messages, or none."""
    row = {name: [] if listed else "" for name, listed in kinds}
    layout = next((adapter for adapter in ADAPTERS.values() if adapter.matches(row)), None)
    return layout is None or layout.dialogue


def _ends(messages: Any) -> str | None:
    """The role of the last message of a dialogue; `None` if the value is none, or holds something else."""
    if not isinstance(messages, list) or not messages or not all(isinstance(turn, dict) for turn in messages):
        return None
    return role_of(messages[-1])
