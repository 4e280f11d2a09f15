"""The tags that mark an answer (tag_families.py): what they enclose, and which of them only stand in the text."""

import re

from .tag_families import ANSWERS, WHOLE, Tag
from .tag_places import is_placeholder, names_pair, quoted, starts_thought, without_outer_space


def _innermost(found: re.Match[str]) -> re.Match[str]:
    """The answer that the last of several opening tags begins: those before it are only spoken of."""
    opening = found.group()[: found.group().index(">") + 1]
    return ANSWERS.match(found.string, found.start() + found.group().rindex(opening), found.end()) or found


def _answer_tags(text: str) -> list[tuple[re.Match[str], Tag]]:
    """The answer tags that do not stand in code or between quotation marks, with what they enclose."""
    found = list(map(_innermost, ANSWERS.finditer(text)))
    tags = [Tag(match.start(), text.index(">", match.start()) + 1, "answer", False) for match in found]
    outside = quoted(text, tags)
    return [
        (match, tag)
        for match, tag in zip(found, tags, strict=True)
        if tag not in outside and not (text[: tag.start].strip() and is_placeholder(_inner_answer(match)))
    ]


def marked_answer(text: str) -> re.Match[str] | None:
    """The last answer tag that is structure."""
    found = None
    for match, tag in _answer_tags(text):
        last = match.end() == len(text.rstrip()) and match.group().endswith(">") and not names_pair(text, tag)
        if last or starts_thought(text, tag, colon=True):
            found = match
    return found


def _inner_answer(marked: re.Match[str]) -> str:
    return without_outer_space(next((part for part in marked.group("text", "text0", "text1") if part), ""))


def _whole(text: str) -> str | None:
    """What one pair of answer tags around a whole text encloses."""
    found = WHOLE.fullmatch(text)
    if found is None or re.search(rf"</?{re.escape(found['name'])}>", found["text"], re.IGNORECASE):
        return None
    return found["text"]


def enclosed(text: str) -> str:
    """A text without the answer tags that enclose all of it."""
    if (whole := _whole(text)) is not None:
        return without_outer_space(whole)
    marked = ANSWERS.match(stripped := text.strip())
    return _inner_answer(marked) if marked and marked.end() == len(stripped) else without_outer_space(text)


def visible(text: str) -> str:
    """What the answer tags of a text enclose, or all of the text."""
    marked = marked_answer(text)
    return enclosed(text) if marked is None or _whole(text) is not None else _inner_answer(marked)


def begins_with_answer(text: str) -> bool:
    """Whether a text begins with an answer tag."""
    text = text.lstrip()
    return ANSWERS.match(text) is not None and marked_answer(text) is not None
