"""Where a text has fenced code, in linear time."""

import re

_FENCE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)


def code_fences(text: str) -> list[tuple[int, int]]:
    """The fenced listings of a text, fences included, as `(start, end)` in order; a fence that nothing closes is none.

    A fence in the last line opens nothing.
    """
    return _listings(text)[0]


def open_fence(text: str) -> int | None:
    """Where the listing begins that nothing closes, if there is one."""
    return _listings(text)[1]


def _listings(text: str) -> tuple[list[tuple[int, int]], int | None]:
    closed: list[tuple[int, int]] = []
    if "```" not in text and "~~~" not in text:
        return closed, None
    opened: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        if opened is None:
            if line.end() < len(text) and "`" not in line["info"]:
                opened = line
        elif line["fence"].startswith(opened["fence"]) and not line["info"].strip():
            closed.append((opened.start(), line.end()))
            opened = None
    return closed, None if opened is None else opened.start()
