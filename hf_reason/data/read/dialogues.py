"""Dialogues -> traces: roles, tools, system texts, and what happens to earlier turns.

The context of a trace is plain text. A single question is the whole context; with earlier turns every turn
begins with its role ("User:" or 用户：). A system text is put in front unless it only says "you are a helpful
assistant" or how to think and mark the answer, which the renderer does; tool definitions follow it as
a list. Tool calls read `name(arguments)`, in the history and in an answer.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from hf_reason.data.record import RawTrace, detect_language

from .rows import SourceError
from .think_tags import join_thought, without_prefill

HISTORIES = ("drop", "keep", "split")
_ROLES = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatgpt", "function_call", "tool_call"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response"),
}
_ROLE = {alias: role for role, aliases in _ROLES.items() for alias in aliases}
_NAMES = {
    "zh": {
        "user": "用户",
        "assistant": "助手",
        "thought": "助手的思考",
        "tool": "工具结果",
        "tools": "可用工具",
        ":": "：",
    },
    "en": {
        "user": "User",
        "assistant": "Assistant",
        "thought": "Assistant's thought",
        "tool": "Tool result",
        "tools": "Available tools",
        ":": ": ",
    },
}
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking", "thought")
_PERSONA = re.compile(r"(?:(?:you are|你是)[^.。!！\n]{0,80}[.。!！]?\s*){1,2}", re.IGNORECASE)
_FORMAT = re.compile(
    r"<think>|<answer>|begin_of_thought|\\boxed|step[- ]by[- ]step|逐步(?:思考|推理)|一步一步|"
    r"\AYour role as an assistant involves thoroughly exploring",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Turn:
    """One message, its thought apart from what it says."""

    role: str
    text: str
    thought: str = ""
    closed: bool = True
    reference: str | None = None


def check_history(history: str) -> None:
    """Raise `SourceError` unless `history` is one of `HISTORIES`."""
    if history not in HISTORIES:
        raise SourceError(f"Unknown history policy {history!r}. Known: {', '.join(HISTORIES)}.")


def is_dialogue(value: object) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)


def user_text(messages: list[dict[str, Any]]) -> str | None:
    """What the user says in all turns, one a line; `None` if that is nothing, or no text."""
    said = [
        turn.get("content", turn.get("value"))
        for turn in messages
        if _ROLE.get(str(turn.get("role", turn.get("from"))).lower()) == "user"
    ]
    return "\n".join(text for text in said if isinstance(text, str)).strip() or None


def _parts(content: object, field: str) -> tuple[str, str]:
    """Text and thought of a message's content: a string, or a list of typed parts."""
    if content is None:
        return "", ""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise SourceError(f"field {field!r} must be text, not {type(content).__name__}.")
    texts, thoughts = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") in ("thinking", "reasoning"):
            thoughts.append(str(part.get("thinking") or part.get("text") or ""))
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise SourceError(f"field {field!r} has a part that is not text; only text can be used.")
    return "\n".join(texts), "\n".join(thoughts)


def _loaded(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _call_text(call: object) -> str:
    call = _loaded(call)
    if not isinstance(call, dict):
        return str(call)
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    arguments = _loaded(inner.get("arguments", inner.get("parameters", {})))
    if isinstance(arguments, dict):
        # Arrow fills the keys that other rows have; they were never part of this call.
        arguments = {key: value for key, value in arguments.items() if value is not None}
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"{inner.get('name', '')}({shown})"


def _calls_text(calls: object) -> str:
    calls = _loaded(calls)
    return "\n".join(map(_call_text, calls if isinstance(calls, list) else [calls])) if calls else ""


def _result_text(content: str) -> str:
    loaded = _loaded(content)
    if isinstance(loaded, list) and loaded and all(isinstance(item, dict) and "content" in item for item in loaded):
        return "\n".join(str(item["content"]) for item in loaded)
    return content


def tools_text(tools: object, language: str) -> str:
    """Tool definitions as a list of names, parameters and descriptions; text that is not JSON stays as it is."""
    tools = _loaded(tools)
    if not tools:
        return ""
    lines = []
    for tool in tools if isinstance(tools, list) else [tools]:
        tool = _loaded(tool)
        inner = tool.get("function", tool) if isinstance(tool, dict) else {}
        if not isinstance(inner, dict) or not inner.get("name"):
            lines.append(str(tool))
            continue
        parameters = _loaded(inner.get("parameters")) or {}
        properties = parameters.get("properties", parameters) if isinstance(parameters, dict) else {}
        names = [key for key, value in properties.items() if value is not None] if isinstance(properties, dict) else []
        lines.append(f"- {inner['name']}({', '.join(names)}): {inner.get('description') or ''}".rstrip(": "))
    names_of = _NAMES[language]
    return "\n".join([f"{names_of['tools']}{names_of[':']}".rstrip(), *lines])


def is_trivial_system(text: str) -> bool:
    """Whether a system text says nothing about the problem: a bare persona, or how to think and mark the answer."""
    text = text.strip()
    return not text or bool(_FORMAT.search(text)) or (len(text) <= 200 and _PERSONA.fullmatch(text) is not None)


def read_turns(messages: list[Any], field: str) -> tuple[list[Turn], str, object]:
    """The turns of a dialogue, its system text, and the tools its messages define.

    Accepts `{role, content}` and `{from, value}`, with thoughts in tags, in `reasoning_content` or in `info`.
    """
    turns: list[Turn] = []
    system: list[str] = []
    tools: object = None
    for number, message in enumerate(messages, 1):
        where = f"{field}[{number}]"
        if not isinstance(message, dict):
            raise SourceError(f"field {where!r} must be a message with role and content, not {message!r:.60}.")
        name = message.get("role", message.get("from"))
        role = _ROLE.get(str(name).lower())
        if role is None:
            raise SourceError(f"field {where!r} has the role {name!r}; known are {', '.join(sorted(_ROLE))}.")
        content, thought = _parts(message.get("content", message.get("value")), where)
        tools = message.get("tools") or tools
        if role == "system":
            system.append(content)
        elif role != "assistant":
            turns.append(Turn(role, _result_text(content) if role == "tool" else content))
        else:
            turns.append(_assistant(message, name, content, thought, where))
    return turns, "\n\n".join(text for text in system if not is_trivial_system(text)), tools


def _assistant(message: dict[str, Any], name: object, content: str, thought: str, where: str) -> Turn:
    given = [message.get("info") or {}, message] if isinstance(message.get("info"), dict) else [message]
    for holder in given:
        for key in ("think_content", *_THOUGHT_KEYS):
            value = holder.get(key)
            if value is not None and not isinstance(value, str):
                raise SourceError(f"field '{where}.{key}' must be text, not {type(value).__name__}.")
            thought = thought or value or ""
    if name in ("function_call", "tool_call"):
        content = _calls_text(content)
    parts = join_thought(thought, content)
    said = [part for part in (parts.answer, _calls_text(message.get("tool_calls"))) if part]
    reference = given[0].get("reference_answer")
    return Turn("assistant", "\n".join(said), parts.thought, parts.closed, str(reference) if reference else None)


def _context(head: list[str], earlier: list[Turn], keep: bool, names: dict[str, str]) -> str:
    if len(earlier) == 1 and earlier[0].role == "user":
        return "\n\n".join([*head, earlier[0].text.strip()])
    lines = list(head)
    for turn in earlier:
        if keep and turn.thought:
            lines.append(f"{names['thought']}{names[':']}{turn.thought}")
        if turn.text.strip():
            lines.append(f"{names[turn.role]}{names[':']}{turn.text.strip()}")
    return "\n\n".join(lines)


def dialogue_traces(
    messages: list[Any], history: str, *, field: str, system: str = "", tools: object = None
) -> list[RawTrace]:
    """Traces of a dialogue.

    Args:
        messages: Its messages, the oldest first.
        history: `"drop"`: the last assistant turn is the trace, earlier turns are in its context without their
            thoughts; `"keep"`: their thoughts are there too, as text without tags; `"split"`: each assistant turn
            with a thought is a trace of its own, earlier thoughts dropped.
        field: The column's name, for errors.
        system: A system text from a column of its own.
        tools: Tool definitions from a column of their own.

    Raises:
        SourceError: if a message cannot be read, or no assistant turn follows a question.
    """
    turns, own_system, own_tools = read_turns(messages, field)
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant" and index > 0]
    if not answers:
        raise SourceError(f"field {field!r} holds no assistant turn after a question.")
    if history == "split":
        chosen = [index for index in answers if turns[index].thought] or answers[-1:]
    else:
        chosen = answers[-1:]
    language = "zh" if detect_language("\n".join(turn.text for turn in turns if turn.role == "user")) == "zh" else "en"
    head = [text for text in (system if not is_trivial_system(system) else "", own_system) if text.strip()]
    if listed := tools_text(tools or own_tools, language):
        head.append(listed)
    return [
        RawTrace(
            context=without_prefill(_context(head, turns[:index], history == "keep", _NAMES[language])),
            thought=turns[index].thought,
            answer=turns[index].text,
            reference=turns[index].reference,
            closed=turns[index].closed,
        )
        for index in chosen
    ]
