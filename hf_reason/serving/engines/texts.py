"""Text of a chain that comes bit by bit -> the parts of its thought and its answer that are certain."""

import re

from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, parse, unescape

# The end of a text that may become a tag, or a step label with the blank that protects it: it waits for more.
_UNSURE = re.compile(r"<\\*/?(?:t(?:h(?:i(?:n(?:k)?)?)?)?)?\Z|(?:\A|(?<=\n)) +(?:步(?:[骤驟]\d*)?)?\Z")


class ThoughtText:
    """Everything between the tags of a thought, with its labels. The opening tag may be missing."""

    def __init__(self) -> None:
        self.text = ""  # as written, the opening tag included
        self._sent = 0

    @property
    def inner(self) -> str:
        """What stands between the tags."""
        return self.text.lstrip().removeprefix(OPEN_TAG).strip()

    @property
    def closed(self) -> bool:
        """Whether the closing tag has come."""
        return CLOSE_TAG in self.text

    @property
    def steps(self) -> tuple[str, ...]:
        """The parsed steps of the whole thought."""
        return tuple(parse(f"{OPEN_TAG}\n{self.inner}\n{CLOSE_TAG}\n\n").steps)

    def push(self, text: str) -> str:
        """More of the thought whose place between the tags is certain; blanks at its end are not."""
        self.text += text
        text = self.text.lstrip()
        if OPEN_TAG.startswith(text[: len(OPEN_TAG)]) and len(text) < len(OPEN_TAG):
            return ""
        text = text.removeprefix(OPEN_TAG).lstrip()
        if unsure := re.search(r"\s*(?:<[^>\s]{0,8})?$", text):
            text = text[: unsure.start()]
        more, self._sent = text[self._sent :], max(self._sent, len(text))
        return more

    def close(self) -> tuple[str, str]:
        """The rest of the thought, and what follows its closing tag (nothing without one)."""
        self.text, _, rest = self.text.partition(CLOSE_TAG)
        return self.inner[self._sent :], rest


class AnswerText:
    """The answer as `parse` gives it.

    Args:
        stop: Texts that end it; they are left out.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self.stop = stop
        self.text = ""  # as written
        self.stopped = False
        self._sent = 0

    @property
    def blank(self) -> bool:
        """Whether it has no text yet."""
        return not self.text.strip()

    def push(self, text: str, final: bool = False) -> str:
        """More of the answer that is certain; sets `stopped`."""
        self.text += text
        text = self.text.lstrip()
        hits = [place for word in self.stop if (place := text.find(word)) >= 0]
        if hits:
            text, final, self.stopped = text[: min(hits)], True, True
        elif not final:
            held = max((overlap(text, word) for word in self.stop), default=0)
            text = text[: len(text) - held]
            if unsure := _UNSURE.search(text):
                text = text[: unsure.start()]
        text = unescape(text.strip())
        more, self._sent = text[self._sent :], max(self._sent, len(text))
        return more


def overlap(text: str, word: str) -> int:
    """Characters at the end of the text with which the word may begin."""
    return next((n for n in range(min(len(text), len(word) - 1), 0, -1) if word.startswith(text[-n:])), 0)
