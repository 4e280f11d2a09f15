"""Dialogues -> traces: roles, tools, system texts, and what happens to earlier turns.

The context of a trace is plain text. A single question is the whole context; with earlier turns every turn
begins with its role ("User:" or 用户：). A system text is put in front unless it only says "you are a helpful
assistant" or how to think and mark the answer, which the renderer does; tool definitions follow it as
a list. Tool calls read `name(arguments)`, in the history and in an answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_reason.data.languages import detect_language
from hf_reason.data.record import RawTrace

from .literals import parsed
from .message_parts import content_parts, is_tool_result
from .messages import CALL_ROLES, ROLE, as_messages, content_of, role_name, role_of
from .reasoning import find_reasoning
from .rows import SourceError
from .think_tags import join_thought, without_prefill
from .tool_calls import calls_text, result_text, tools_text
from .truncation import is_truncated

HISTORIES = ("drop", "keep", "split")
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
_PERSONA = re.compile(r"(?:(?:you are|你是)[^.。!！\n]{0,80}[.。!！]?\s*){1,2}", re.IGNORECASE)
_FORMAT = re.compile(
    r"<think>|<answer>|begin_of_thought|\\boxed|step[- ]by[- ]step|逐步(?:思考|推理)|一步一步|"
    r"\A(?:detailed thinking (?:on|off)|/(?:no_?)?think)\s*\Z|"
    r"\AYour role as an assistant involves thoroughly exploring",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Turn:
    """One message, its thought apart from what it says.

    Attributes:
        role: user, assistant or tool.
        text: What it says.
        thought: Its thought; empty if it has none.
        closed: `False` if the thought never ends.
        truncated: Whether the source says that the message was cut.
        trained: `False` for a message that the source excludes from training (`weight: 0`).
        reference: The known answer, if the message has one.
    """

    role: str
    text: str
    thought: str = ""
    closed: bool = True
    truncated: bool = False
    trained: bool = True
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
    said = [content_of(turn) for turn in messages if role_of(turn) == "user"]
    return "\n".join(text for text in said if isinstance(text, str)).strip() or None


def is_trivial_system(text: str) -> bool:
    """Whether a system text says nothing about the problem: a bare persona, or how to think and mark the answer."""
    text = text.strip()
    return not text or bool(_FORMAT.search(text)) or (len(text) <= 200 and _PERSONA.fullmatch(text) is not None)


def read_turns(messages: list[Any], field: str) -> tuple[list[Turn], str, object]:
    """The turns of a dialogue, its system text, and the tools its messages define.

    Accepts the messages of `as_messages`, with thoughts in tags, in a key named like reasoning, in typed parts, in
    `info`, or in a turn of their own.
    """
    turns: list[Turn] = []
    system: list[str] = []
    tools: object = None
    pending = ""  # a thought in a turn of its own
    for number, message in enumerate(messages, 1):
        where = f"{field}[{number}]"
        if not isinstance(message, dict):
            raise SourceError(f"field {where!r} must be a message with role and content, not {message!r:.60}.")
        role = role_of(message)
        if role is None:
            known = ", ".join(sorted(ROLE))
            raise SourceError(f"field {where!r} has the role {role_name(message)!r}; known are {known}.")
        content = content_of(message)
        tools = message.get("tools") or tools
        if role == "tool" or (role == "user" and is_tool_result(content)):
            turns.append(Turn("tool", result_text(content)))
        elif role == "assistant" and message.get("channel") != "analysis":
            turn = _assistant(message, content, pending, where)
            pending = ""
            if turns and _belongs(turns[-1], message):
                turn = _merged(turns.pop(), turn)
            turns.append(turn)
        else:
            text, thought = content_parts(content, where)
            if role == "system":
                system.append(text)
            elif role == "user":
                turns.append(Turn(role, text))
            else:
                pending = "\n\n".join(filter(None, (pending, text or thought)))
    if pending:
        turns.append(Turn("assistant", "", pending, closed=False))
    return turns, "\n\n".join(text for text in system if not is_trivial_system(text)), tools


def _assistant(message: dict[str, Any], content: object, pending: str, where: str) -> Turn:
    if role_name(message) in CALL_ROLES:
        text, thought = calls_text(content), ""
    else:
        text, thought = content_parts(content, where)
    info = message["info"] if isinstance(message.get("info"), dict) else {}
    found = find_reasoning(message, f"{where}.")
    thought = thought or (found if isinstance(found, str) else "\n\n".join(found)) or pending
    parts = join_thought(thought, text)
    calls = (calls_text(message.get(key)) for key in ("tool_calls", "function_call", "tool_call"))
    reference = info.get("reference_answer")
    return Turn(
        "assistant",
        "\n".join(part for part in (parts.answer, *calls) if part),
        parts.thought,
        parts.closed,
        is_truncated(message),
        not any(message.get(key, 1) in (0, False) for key in ("weight", "train", "trainable", "loss")),
        str(reference) if reference else None,
    )


def _belongs(before: Turn, message: Mapping[str, Any]) -> bool:
    """Whether a message continues the turn before it: a call, or what follows a thought of its own."""
    return before.role == "assistant" and (role_name(message) in CALL_ROLES or not before.text.strip())


def _merged(before: Turn, turn: Turn) -> Turn:
    return replace(
        turn,
        text="\n".join(filter(None, (before.text, turn.text))),
        thought="\n\n".join(filter(None, (before.thought, turn.thought))),
        closed=before.closed and turn.closed,
        reference=turn.reference or before.reference,
    )


@dataclass(frozen=True)
class _Dialogue:
    """The turns of a dialogue, with what stands in front of them."""

    turns: list[Turn]
    head: list[str]
    names: dict[str, str]

    def trace(self, index: int, keep: bool) -> RawTrace:
        """The trace of the assistant turn at `index`; `keep`: with the thoughts of the turns before it."""
        turn = self.turns[index]
        return RawTrace(
            context=self.context(self.turns[:index], keep),
            thought=turn.thought,
            answer=turn.text,
            reference=turn.reference,
            closed=turn.closed,
            truncated=turn.truncated,
        )

    def context(self, earlier: list[Turn], keep: bool) -> str:
        if len(earlier) == 1 and earlier[0].role == "user":
            return without_prefill("\n\n".join([*self.head, earlier[0].text.strip("\n").rstrip()]))
        mark, lines = self.names[":"], list(self.head)
        for turn in earlier:
            if keep and turn.thought:
                lines.append(f"{self.names['thought']}{mark}{turn.thought}")
            if turn.text.strip():
                lines.append(f"{self.names[turn.role]}{mark}{turn.text.strip()}")
        return without_prefill("\n\n".join(lines))


def _dialogue(turns: list[Turn], systems: list[str], tools: object) -> _Dialogue:
    asked = "\n".join(turn.text for turn in turns if turn.role == "user")
    names = _NAMES["zh" if detect_language(asked) == "zh" else "en"]
    head = [text for text in systems if text.strip() and not is_trivial_system(text)]
    listed = tools_text(tools, f"{names['tools']}{names[':']}".rstrip())
    return _Dialogue(turns, [*head, listed] if listed else head, names)


def dialogue_traces(
    messages: object, history: str, *, field: str, system: str = "", tools: object = None
) -> list[RawTrace]:
    """Traces of a dialogue.

    Args:
        messages: Its messages, the oldest first, in any shape that `as_messages` knows.
        history: `"drop"`: the last assistant turn is the trace, earlier turns are in its context without their
            thoughts; `"keep"`: their thoughts are there too, as text without tags; `"split"`: each assistant turn
            with a thought is a trace of its own, earlier thoughts dropped.
        field: The column's name, for errors.
        system: A system text from a column of its own.
        tools: Tool definitions from a column of their own.

    Raises:
        SourceError: if a message cannot be read, or no assistant turn follows a question.
    """
    turns, own_system, own_tools = read_turns(as_messages(messages, field) or [], field)
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant" and index > 0]
    if not answers:
        raise SourceError(f"field {field!r} holds no assistant turn after a question.")
    chosen = answers[-1:]
    if history == "split":
        chosen = [index for index in answers if turns[index].thought and turns[index].trained] or chosen
    dialogue = _dialogue(turns, [system, own_system], tools or own_tools)
    return [dialogue.trace(index, history == "keep") for index in chosen]


def traces_after(
    trace: RawTrace, earlier: object, history: str, *, field: str, system: str = "", tools: object = None
) -> list[RawTrace]:
    """The traces of a question that earlier turns, a system text or tools precede in columns of their own.

    Args:
        trace: The trace of the question alone.
        earlier: The turns before it, in any shape that `as_messages` knows, or text; `None` if there are none.
        history, field, system, tools: As for `dialogue_traces`; with `"split"` earlier turns are traces too.

    Raises:
        SourceError: if a message cannot be read.
    """
    messages = as_messages(earlier, field)
    told = earlier.strip() if isinstance(earlier, str) and isinstance(parsed(earlier), str) else ""
    turns, own_system, own_tools = read_turns(messages or [], field)
    if turns and turns[-1].role == "user" and turns[-1].text.strip() == trace.context.strip():
        turns.pop()  # the question itself
    asked = Turn("user", trace.context)
    dialogue = _dialogue([*turns, asked], [system, own_system], tools or own_tools)
    if told:
        dialogue = replace(dialogue, head=[*dialogue.head, told])
    split = [i for i, turn in enumerate(turns) if i and turn.role == "assistant" and turn.thought and turn.trained]
    last = replace(trace, context=dialogue.context([*turns, asked], history == "keep"))
    return [*(dialogue.trace(index, False) for index in split if history == "split"), last]
