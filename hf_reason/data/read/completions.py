"""What APIs return, stored as it came -> a dialogue.

Known are OpenAI's chat completions, text completions, responses and batch outputs, Anthropic's messages and message
batches, Gemini's candidates, Ollama's chats and vLLM's outputs. The question is in the same row: the request, or a
column.
"""

from collections.abc import Mapping
from typing import Any

from .literals import parsed
from .messages import is_message
from .reasoning import reasoning_names
from .truncation import is_truncated

# Columns that may hold an answer as it came, and those that may hold the request.
_ANSWERS = (
    *("response", "completion", "output", "answer", "raw_response", "api_response", "result", "body", "generation"),
)
_REQUESTS = ("request", "body", "params", "generic_request", "payload", "input")
_QUESTIONS = ("question", "problem", "prompt", "query", "instruction", "input", "contents")
_TEXTS = ("content", "text", "answer", "response", "output", "final_answer")
_OWN_MARKS = frozenset(("choices", "candidates", "outputs", "output", "message", "stop_reason", "body", "result"))
# A row with one of these may be an answer as it came.
_MARKS = frozenset(("choices", "candidates", "outputs", "output", "message", "stop_reason", *_ANSWERS))


def _as_object(value: object) -> object:
    """An object, also one that stands there as JSON text."""
    return parsed(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


def completion_message(value: object) -> dict[str, Any] | None:
    """The assistant's message in what an API returned; `None` if the value is something else."""
    value = _as_object(value)
    if not isinstance(value, Mapping):
        return None
    for name in ("choices", "candidates", "outputs"):
        found = [_choice(choice) for choice in value[name]] if isinstance(value.get(name), list) else []
        messages = [message for message in found if message is not None]
        if messages:  # the first that is whole
            return next((message for message in messages if not is_truncated(message)), messages[0])
    if isinstance(value.get("output"), list):
        return _response(value)
    message = value.get("message")
    if isinstance(message, Mapping):
        return completion_message(message) or _choice(value)
    if value.get("role") == "assistant" and ("stop_reason" in value or "content" in value):
        return dict(value)
    for name in ("body", "response", "result"):
        if isinstance(value.get(name), Mapping) and (inner := completion_message(value[name])) is not None:
            return inner
    return None


def _choice(choice: object) -> dict[str, Any] | None:
    """The message of one of several choices, with its finish reason."""
    if not isinstance(choice, Mapping):
        return None
    reasons = {key: choice[key] for key in ("finish_reason", "done_reason", "finishReason") if key in choice}
    message = choice.get("message", choice.get("content"))
    if isinstance(message, Mapping) and not {"content", "parts", "role", "tool_calls"}.isdisjoint(message):
        return {**message, "role": "assistant", **reasons}
    if isinstance(choice.get("text"), str) and reasons:
        return {"role": "assistant", "content": choice["text"], **reasons}
    return None


def _response(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """OpenAI's responses: items of reasoning, messages and calls."""
    items = [item for item in value["output"] if isinstance(item, Mapping) and item.get("type")]
    parts: list[Any] = []
    for item in items:
        if item["type"] == "message" and isinstance(item.get("content"), list):
            parts += item["content"]
        elif item["type"] in ("reasoning", "function_call"):
            parts.append(item)
    if not parts:
        return None
    return {"role": "assistant", "content": parts, "truncated": value.get("status") == "incomplete"}


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    """A row with an API's answer as one with `messages`; any other row as it is."""
    if _MARKS.isdisjoint(row):
        return row
    message = completion_message(row) if not _OWN_MARKS.isdisjoint(row) else None
    used, said = "choices", [message] if message is not None else []
    for name in _ANSWERS:
        if not said:
            used, said = name, _said(name, row.get(name))
    if not said:
        return row
    gone = {used, *_REQUESTS, "choices", "candidates", "outputs", "message", "stop_reason"}
    kept = {name: value for name, value in row.items() if name not in gone}
    return {**kept, "messages": [*_asked(row, used), *said]}


def _said(name: str, value: object) -> list[Any]:
    """The messages in a column with an answer: an API's, an object with thought and answer, or a list of messages."""
    if (message := completion_message(value)) is not None:
        return [message]
    if isinstance(value, Mapping) and reasoning_names(tuple(value)):
        return [{"role": "assistant", "content": dict(value)}] if any(map(value.get, _TEXTS)) else []
    listed = name != "completion" and isinstance(value, list) and bool(value)  # a list of it is TRL's own
    return list(value) if listed and all(map(is_message, value)) else []  # type: ignore[call-overload,arg-type]


def _asked(row: Mapping[str, Any], used: str) -> list[Any]:
    """The messages of the request, or the question in a column."""
    for name in ("messages", *_REQUESTS, *_QUESTIONS):
        if name == used:
            continue
        value = _as_object(row.get(name))
        if isinstance(value, Mapping):
            body = value.get("body")
            if found := _request(body if isinstance(body, Mapping) else value):
                return found
        if isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value):
            return list(value)
    texts = [row[name] for name in _QUESTIONS if name != used and isinstance(row.get(name), str) and row[name].strip()]
    return [{"role": "user", "content": "\n\n".join(texts)}] if texts else []


def _request(request: Mapping[str, Any]) -> list[Any]:
    """The messages of a request to an API."""
    system = request.get("system") or request.get("instructions")
    head = [{"role": "system", "content": system}] if system else []
    for name in ("messages", "input", "contents", "prompt"):
        value = request.get(name)
        if isinstance(value, list) and value:
            return [*head, *value]
        if isinstance(value, str) and value:
            return [*head, {"role": "user", "content": value}]
    return []
