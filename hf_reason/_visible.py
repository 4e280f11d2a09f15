"""Text of data and models on a terminal: control characters are shown, not obeyed."""

import re

# All of C0 but tab and line feed, DEL and C1, what turns the direction of a line around, and halves of characters,
# which no terminal can be sent.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with each control character as its escape.

    Left as they are they could colour, clear or retype a terminal, set its title, or hide the line before them.
    """
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
