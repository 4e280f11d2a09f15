"""What a message says and thinks, from a text or from the typed parts of APIs."""

import math
from collections.abc import Mapping

from .columns import storable
from .reasoning import find_reasoning, reasoning_text
from .rows import SourceError
from .tool_calls import calls_text, result_text

# Keys of an object with a thought that hold what is said after it.
_ANSWER_KEYS = ("content", "text", "answer", "response", "output", "final", "final_answer", "value")


def is_tool_result(content: object) -> bool:
    """Whether a content has results of tools only, which Anthropic's messages give the role of the user."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(part, Mapping) and part.get("type") == "tool_result" for part in content)
    )


def content_parts(content: object, field: str) -> tuple[str, str]:
    """Text and thought of a message's content: a string, or typed parts."""
    if content is None or (isinstance(content, float) and math.isnan(content)):
        return "", ""
    if isinstance(content, str):
        return storable(content), ""
    if isinstance(content, Mapping):
        if isinstance(thought := find_reasoning(content, f"{field}."), str) and thought:
            said = next((content[key] for key in _ANSWER_KEYS if isinstance(content.get(key), str)), "")
            return storable(said), thought
        content = content.get("parts", [content])
    if not isinstance(content, list | tuple):
        raise SourceError(f"field {field!r} must be text, not {type(content).__name__}.")
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content:
        kind, text = _part(part, field)
        (thoughts if kind == "thought" else texts).append(text)
    return storable("\n".join(filter(None, texts))), storable("\n".join(filter(None, thoughts)))


def _part(part: object, field: str) -> tuple[str, str]:
    """One part of a content: whether it is a thought, and its text."""
    if isinstance(part, str):
        return "text", part
    if isinstance(part, Mapping):
        kind = str(part.get("type", ""))
        if kind.partition(".")[0] in ("thinking", "reasoning", "thought", "redacted_thinking") or part.get("thought"):
            thought = reasoning_text(part, field)
            return "thought", thought if isinstance(thought, str) else "\n".join(thought)
        if kind in ("tool_use", "tool_call", "function_call") or "functionCall" in part:
            return "text", calls_text(part.get("functionCall", part))
        if kind == "tool_result":
            return "text", result_text(part.get("content"))
        if isinstance(part.get("text"), str):
            return "text", part["text"]
    raise SourceError(f"field {field!r} has a part that is not text; only text can be used.")
