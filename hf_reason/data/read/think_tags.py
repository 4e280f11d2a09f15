"""Split a message into thought and answer by the tags that published traces use."""

import re
from dataclasses import dataclass

_OPEN = r"<think>|<thinking>|<Thought>|<\|begin_of_thought\|>"
_TAIL = re.compile(rf"(?:{_OPEN})\s*\Z")
_CLOSE = r"</think>|</thinking>|</Thought>|<\|end_of_thought\|>"
_TAG = re.compile(rf"(?P<open>{_OPEN})|(?P<close>{_CLOSE})")
_ANSWER = re.compile(
    r"<(?P<name>answer|Output)>(?P<text>.*?)(?:</(?P=name)>|\Z)|"
    r"<\|begin_of_solution\|>(?P<solution>.*?)(?:<\|end_of_solution\|>|\Z)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Thought:
    """The parts of a message.

    Attributes:
        thought: The reasoning without its tags; empty if there is none.
        answer: What a reader of the message sees.
        closed: `False` if a thought begins and never ends.
    """

    thought: str
    answer: str
    closed: bool


def _visible(text: str) -> str:
    """The content of the last answer tag, or all of the text."""
    found = list(_ANSWER.finditer(text))
    if not found:
        return text.strip()
    return (found[-1].group("text") or found[-1].group("solution") or "").strip()


def split_thought(message: str) -> Thought:
    """Split a message into thought and answer; no tag of either is left in them.

    A closing tag without an opening one ends a thought whose opening tag was in the prompt. Doubled tags
    count as one. Text in front of a thought belongs to the answer.
    """
    thoughts: list[str] = []
    visible: list[str] = []
    position, inside, tags = 0, False, 0
    for match in _TAG.finditer(message):
        text = message[position : match.start()]
        if match.group("close") and not inside:
            # A thought prefilled by the prompt, or one that continues after a mention of its own closing tag.
            thoughts += [*visible, text]
            visible = []
        else:
            (thoughts if inside else visible).append(text)
        inside = match.group("open") is not None
        position, tags = match.end(), tags + 1
    (thoughts if inside else visible).append(message[position:])
    answer = "\n\n".join(part for part in visible if part.strip())
    if inside and (tagged := _ANSWER.search(thoughts[-1])):
        # The closing tag is missing, but the answer is marked.
        answer, thoughts[-1] = thoughts[-1][tagged.start() :], thoughts[-1][: tagged.start()]
    thought = "\n\n".join(part.strip() for part in thoughts if part.strip())
    marked = tags or answer.lstrip().startswith(("<answer>", "<Output>", "<|begin_of_solution|>"))
    return Thought(thought, _visible(answer) if marked else answer.strip(), not inside)


def join_thought(thought: str, content: str) -> Thought:
    """Thought and answer from separate columns; either may have tags all the same."""
    outer = split_thought(content)
    if not thought.strip():
        return outer
    if not _TAG.search(thought):
        inner = thought.strip()
    else:
        parts = split_thought(thought)
        inner = parts.thought or parts.answer
    return Thought(inner, outer.answer or (_visible(outer.thought) if not outer.closed else ""), True)


def without_prefill(prompt: str) -> str:
    """A prompt without the opening tag that a chat template left at its end."""
    return _TAIL.sub("", prompt)
