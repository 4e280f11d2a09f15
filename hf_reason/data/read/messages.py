"""The shapes in which files hold a dialogue -> a list of messages `{"role", "content", ...}`.

Known are lists of messages (`role`/`content`, `from`/`value`, `speaker`/`text`, ...), what `datasets` makes of them
(one object of lists), pairs of question and answer (`[[q, a], ...]`, `[{"human": q, "assistant": a}, ...]`), and each
of these as text (JSON, or Python's repr in a CSV).
"""

from collections.abc import Mapping
from typing import Any

from hf_reason.answers.traditional import simplified

from .literals import parsed
from .rows import SourceError

_ROLE_KEYS = ("role", "from", "speaker", "sender", "author", "Role", "From")
_CONTENT_KEYS = ("content", "value", "text", "message", "utterance", "parts", "Content", "Value", "内容")
_ASKED = ("human", "user", "instruction", "input", "question", "query", "prompt", "q", "问", "用户", "问题")
_SAID = (
    "assistant",
    "gpt",
    "bot",
    "output",
    "response",
    "answer",
    "completion",
    "model",
    "moss",
    "a",
    "答",
    "助手",
    "回答",
)
_ROLES = {
    "system": ("system", "developer", "系统"),
    "user": ("user", "human", "prompter", "用户", "使用者", "人类"),
    "assistant": (
        *("assistant", "gpt", "bot", "model", "chatgpt", "chatbot", "ai", "llm", "function_call", "tool_call"),
        *("tool_calls", "tool_use", "助手", "助理"),
    ),
    "tool": (
        *("tool", "function", "observation", "ipython", "tool_response", "tool_result", "tool_output", "environment"),
        *("function_response", "function_result", "工具", "观察"),
    ),
    # a turn of its own that holds the thought of the next assistant turn
    "thought": ("thinking", "reasoning", "thought", "think", "reasoning_content", "analysis", "思考"),
}
ROLE = {alias: role for role, aliases in _ROLES.items() for alias in aliases}
CALL_ROLES = ("function_call", "tool_call", "tool_calls", "tool_use")


def role_of(message: Mapping[str, Any]) -> str | None:
    """One of system, user, assistant, tool and thought; `None` for a message without a known role."""
    return ROLE.get(simplified(str(role_name(message))).strip().lower())


def role_name(message: Mapping[str, Any]) -> object:
    """The role as the file writes it."""
    name = next((message[key] for key in _ROLE_KEYS if message.get(key) is not None), message.get("角色"))
    if name is None and message.get("type") in ("human", "ai"):  # LangChain
        return message["type"]
    return name.get("role") if isinstance(name, Mapping) else name


def content_of(message: Mapping[str, Any]) -> object:
    """What a message says, as the file has it."""
    return next((message[key] for key in _CONTENT_KEYS if message.get(key) is not None), None)


def is_message(value: object) -> bool:
    """Whether a value is one message: an object with a role."""
    return isinstance(value, Mapping) and role_name(value) is not None


def as_messages(value: object, field: str) -> list[Any] | None:
    """The messages of a dialogue in any known shape; `None` if the value is no dialogue.

    Single messages that cannot be used are left as they are, for an error that names them.

    Raises:
        SourceError: for an object of lists that differ in length.
    """
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, Mapping):
        if is_message(value) and not isinstance(role_name(value), list | tuple):
            return [value]
        return _from_lists(value, field)
    if not isinstance(value, list | tuple) or not value:
        return None
    if all(isinstance(turn, dict) and "role" in turn for turn in value):
        return list(value)
    turns = [parsed(turn) if isinstance(turn, str) else turn for turn in value if turn not in (None, "", [], {})]
    if all(isinstance(turn, str) for turn in turns):
        # question and answer by turns, as in UltraChat
        return _pairs(list(zip(turns[::2], turns[1::2], strict=True))) if len(turns) % 2 == 0 else list(value)
    if all(isinstance(turn, list | tuple) and len(turn) == 2 for turn in turns):
        return _pairs(turns)
    return [message for turn in turns for message in _messages_in(turn)]


def _pairs(pairs: list[Any]) -> list[dict[str, Any]]:
    """Pairs of question and answer, either of which may be empty."""
    messages = [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
        if text is not None and text != ""
    ]
    return messages


def _from_lists(value: Mapping[str, Any], field: str) -> list[Any] | None:
    """One object of equally long lists, one list a key, as `datasets` stores a list of objects."""
    for name in ("messages", "conversations", "conversation", "turns"):
        if isinstance(value.get(name), list):
            return as_messages(value[name], f"{field}.{name}")
    lists = {key: item for key, item in value.items() if isinstance(item, list | tuple)}
    if role_name(lists) is None or content_of(lists) is None:
        return None
    lengths = {key: len(item) for key, item in lists.items()}
    longest = max(lengths.values())
    roles = len(role_name(lists))  # type: ignore[arg-type]
    if roles != longest or len(content_of(lists)) != longest:  # type: ignore[arg-type]
        told = ", ".join(f"{length} of {key!r}" for key, length in lengths.items())
        raise SourceError(f"field {field!r} holds lists that differ in length: {told}.")
    return [
        {key: item[number] for key, item in lists.items() if number < len(item) and item[number] is not None}
        for number in range(longest)
    ]


def _messages_in(turn: object) -> list[Any]:
    """A message itself, or those of an object with a question and an answer."""
    if not isinstance(turn, Mapping) or is_message(turn):
        return [turn]
    names = {str(key).strip().lower(): key for key in turn}
    asked = next((names[key] for key in _ASKED if key in names), None)
    said = next((names[key] for key in _SAID if key in names), None)
    if asked is None and said is None:
        return [turn]
    found: list[dict[str, Any]] = []
    if turn.get("system"):
        found.append({"role": "system", "content": turn["system"]})
    if asked is not None and turn[asked]:
        found.append({"role": "user", "content": turn[asked]})
    if said is not None and turn[said] is not None:
        rest = {key: value for key, value in turn.items() if key not in (asked, said, "system", "content")}
        found.append({**rest, "role": "assistant", "content": turn[said]})
    return found
