"""Thought tags that are not among the known ones: those that a user names, and those that a report should name."""

import re
from collections.abc import Sequence
from typing import Any

from .tag_families import TagFamilies, named_families
from .tag_places import END, mentions, place_of_end

# Markup that may open an answer and encloses no thought.
_MARKUP = re.compile(
    r"a|abbr|address|article|aside|audio|b|blockquote|body|br|button|canvas|caption|center|code|col|"
    r"dd|del|details|div|dl|doctype|dt|em|figure|font|footer|form|h1|h2|h3|h4|h5|h6|head|header|"
    r"hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|math|meta|nav|ol|p|path|pre|q|"
    r"s|script|section|select|small|span|strong|style|sub|summary|sup|svg|table|tbody|td|template|"
    r"textarea|tfoot|th|thead|title|tr|u|ul|video|xml|answer|output|response|final|final_answer|"
    r"solution|result|conclusion|tool|tools|tool_call|tool_response|function|function_call",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"\s*(?P<open><(?P<angle>[^\W\d][\w:.-]{0,40})(?:\s[^<>]{0,200})?>"
    r"|\[(?P<square>[^\W\d_][\w ]{0,30})\]"
    r"|(?P<wide>[◁【《])(?P<name>[^\W\d][\w ]{0,30})[▷】》]"
    r"|<\|(?P<special>(?:(?:begin|start)_of_)?[A-Za-z]\w{0,40}?)\|>)"
)
# Pairs whose names begin or end with one of these words: `<think_start>`, `<|cot_begin|>`, `[思考开始]`, `<开始思考>`.
_STARTS = {"start": "end", "begin": "end", "open": "close", "开始": "结束", "開始": "結束"}
_START = re.compile(
    r"\s*(?P<open>(?P<left><\|?|\[|【|◁|《|\{)(?:(?P<first>start|begin|open|开始|開始)[\w ]{1,40}"
    r"|[^\W\d][\w ]{0,40}?(?P<last>start|begin|open|开始|開始))(?:\|?>|\]|】|▷|》|\}))",
    re.IGNORECASE,
)


def unknown_tag(answer: str) -> str | None:
    """The name, as `thought_tags` accepts it, of a pair of tags that encloses the beginning of an answer.

    Args:
        answer: The answer of a message in which no thought was found.

    Returns:
        `x` for `<x>...</x>` or `OPEN,CLOSE`; `None` if there is no such pair, nothing follows it, or it is markup
        that documents use.
    """
    if (pair := _start_and_end(answer)) is not None:
        return pair
    found = _OPENING.match(answer)
    if found is None:
        return None
    opening = found["open"]
    closing, name = _closing(found)
    end = answer.find(closing, found.end())
    if end < 0 or not answer[end + len(closing) :].strip() or not answer[found.end() : end].strip():
        return None
    if found["angle"]:
        return None if _MARKUP.fullmatch(name) else name
    return f"{opening},{closing}"


def _start_and_end(answer: str) -> str | None:
    """`OPEN,CLOSE` for a pair that says in words where it starts and ends."""
    found = _START.match(answer)
    if found is None:
        return None
    group = "first" if found["first"] else "last"
    word, (start, end) = found[group], found.span(group)
    other = _STARTS[word.lower()]
    other = other.upper() if word.isupper() else other.title() if word.istitle() else other
    closing = answer[found.start("open") : start] + other + answer[end : found.end("open")]
    place = answer.find(closing, found.end())
    if place < 0 or not answer[place + len(closing) :].strip() or not answer[found.end() : place].strip():
        return None
    return f"{found['open']},{closing}"


def _closing(found: re.Match[str]) -> tuple[str, str]:
    """The closing tag that belongs to an opening one, and the name of both."""
    if found["angle"]:
        return f"</{found['angle']}>", found["angle"]
    if found["square"]:
        return f"[/{found['square']}]", found["square"]
    if found["wide"]:
        return found["open"].replace(found["wide"], found["wide"] + "/"), found["name"]
    name = found["special"]
    for start, end in (("begin", "end"), ("BEGIN", "END"), ("start", "end"), ("START", "END")):
        if name.startswith(f"{start}_"):
            return f"<|{end}{name.removeprefix(start)}|>", name
    return f"<|/{name}|>", name


class TagTranslator:
    """Writes the tags that a user names as `<think>` and `</think>`, so that every layout reads them.

    A text is rewritten where it begins with such an opening tag, or where a closing tag without an opening one stands
    at the start or the end of a line (the prompt opened the thought). Elsewhere the tags are text: an instruction
    that describes the format keeps them.

    Args:
        names: `x` for `<x>...</x>`, or `OPEN,CLOSE`.

    Raises:
        SourceError: a name that is neither.
    """

    def __init__(self, names: Sequence[str]):
        self._families: TagFamilies | None = named_families(names) if names else None

    def __call__(self, value: Any) -> Any:
        """A value of a row with the tags in it translated; lists and dictionaries are copied."""
        if self._families is None:
            return value
        if isinstance(value, str):
            return self._text(value, self._families)
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, dict):
            return {key: self(item) for key, item in value.items()}
        return value

    def _text(self, text: str, families: TagFamilies) -> str:
        tags = families.find(text)
        if not tags:
            return text
        spoken = mentions(text, tags)
        used = [tag for tag in tags if tag not in spoken]
        if not used:
            return text
        first = used[0]
        if text[: first.start].strip() if not first.closes else place_of_end(text, first) < END:
            return text
        parts, position = [], 0
        for tag in used:
            parts += [text[position : tag.start], "</think>" if tag.closes else "<think>"]
            position = tag.end
        return "".join([*parts, text[position:]])
