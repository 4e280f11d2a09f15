"""Where a tag stands in a text: as structure, or as something that the text speaks of."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import zip_longest

from .code_fences import code_fences
from .tag_families import Tag

# How clearly a closing tag ends a thought: in the middle of a sentence, between two words without a space, after the
# end of a sentence, at the end or the start of a line.
MENTION, INLINE, SENTENCE, END = range(4)

_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^`\n]+\1(?!`)")
_QUOTES = dict(zip("\"'“‘「『《(（`*[【{", "\"'”’」』》)）`*]】}", strict=True))
# What stands between two tags that a sentence names together.
_BETWEEN = re.compile(r"[ \t]*(?:和|与|與|及|或|至|到|、|,|，|/|&|and|or|to)[ \t]*[<\[◁【]")
_LONGEST_MENTION = 40
_PLACEHOLDER = re.compile(
    r"\s*[\[({（【]?\s*(?:\.{2,}|…+"
    r"|(?:你的|这里写|此处写|在此写)?(?:推理|思考|思维|分析|最终)?(?:过程|内容|答案|回答|推理|思考)"
    r"|(?:your |the |my )?(?:final )?(?:reasoning|thoughts?|thinking|answer|response)(?: process)?(?: goes)?(?: here)?"
    r")\s*(?:\.{2,}|…+)?\s*[\])}）】]?\s*",
    re.IGNORECASE,
)
# As much of a line is looked at.
_LINE = 200
_SENTENCE_END = ".!?。！？…;；>"
_AFTER_THOUGHT = ':：)）]】}」』”"*$|'
# The mark of a list or a quotation in front of a tag: what follows explains the tag.
_LIST_MARK = re.compile(r"(?:\A|[>\n])\s*(?:\d{1,3}|[A-Za-z])[.)]\s*\Z|(?:\A|>)(?:\s*>)+\s*\Z")
_ROLE_LABEL = re.compile(r"\s*(?:答|回答|解答?|助手|assistant|model|bot|ai|a)\s*[:：]\s*", re.IGNORECASE)
# Words that speak of a tag.
_CUE_BEFORE = re.compile(
    r"(?:标签|標籤|标记|標記|放在|写在|寫在|使用|输出|輸出|\b(?:the|an?|in|with|use|using)) ?$", re.IGNORECASE
)
_CUE_AFTER = re.compile(
    r" ?(?:标签|標籤|标记|標記|符号|符號|(?:tag|token|block|element|marker)s?\b|"
    r"(?<= )(?:is|are|means?|opens?|marks?|ends?)\b)",
    re.IGNORECASE,
)


def without_outer_space(text: str) -> str:
    """`text` without empty lines around it and white space at its end; the indent of a listing's first line stays."""
    text = re.sub(r"\A(?:[^\S\n]*\n)+", "", text).rstrip()
    indented = re.match(r"(?:\t| {4,})\S", text) or ("\n" in text and re.match(r" {2,3}\S", text))
    return text if indented else text.lstrip()


def _inside(spans: Sequence[tuple[int, int]], tag: Tag) -> tuple[int, int] | None:
    """The one of the spans (in order, disjoint) in which a tag stands."""
    index = bisect_right(spans, (tag.start, len(spans) and spans[-1][1])) - 1
    return spans[index] if index >= 0 and tag.start < spans[index][1] else None


def hidden_ends(text: str, tags: Sequence[Tag]) -> list[Tag]:
    """Closing tags on a line of their own that only look like code: a listing was left open in front of them."""
    fences, opened, found = code_fences(text), set(), []
    for tag in tags:
        around = _inside(fences, tag)
        if around is not None and not tag.closes:
            opened.add(around)
        elif around is not None and around not in opened and place_of_end(text, tag) == END:
            found.append(tag)
    return found


def quoted(text: str, tags: Sequence[Tag]) -> set[Tag]:
    """The tags in code, or between quotation marks or brackets of their own."""
    inline = [match.span() for match in _INLINE_CODE.finditer(text)] if "`" in text else []
    fences = code_fences(text)
    found = {tag for tag in tags if _inside(fences, tag) or _inside(inline, tag)}
    for tag, following in zip_longest(tags, tags[1:]):
        mark = _QUOTES.get(text[tag.start - 1 : tag.start])
        if mark is None:
            continue
        if text[tag.end : tag.end + 1] == mark:
            found.add(tag)
        elif (
            following is not None
            and following.closes
            and text[following.end : following.end + 1] == mark
            and "\n" not in text[tag.end : following.start]
        ):
            found |= {tag, following}
    return found


def mentions(text: str, tags: Sequence[Tag]) -> set[Tag]:
    """The tags that the text only speaks of: quoted ones, and pairs in the middle of a sentence."""
    found = quoted(text, tags)
    for tag, following in zip(tags, tags[1:], strict=False):
        if tag.closes or not following.closes or found & {tag, following}:
            continue
        between = text[tag.end : following.start]
        if is_placeholder(between) and text[: tag.start].strip():
            found |= {tag, following}
        if "\n" in between or len(between) > _LONGEST_MENTION:
            continue
        if names_pair(text, tag) or not starts_thought(text, tag):
            found |= {tag, following}
    return found


def is_placeholder(text: str) -> bool:
    """Whether a text only says what belongs in its place, as in a template: `...`, 推理过程, "your answer here"."""
    return len(text) < _LONGEST_MENTION and _PLACEHOLDER.fullmatch(text) is not None


def names_pair(text: str, tag: Tag) -> bool:
    """Whether the text behind a tag only joins it to the next one, as in `<x> and </x>`."""
    return _BETWEEN.match(text, tag.end) is not None


def _line_before(text: str, tag: Tag) -> str:
    """What stands in front of a tag on its line; of a long line the end."""
    return text[max(text.rfind("\n", 0, tag.start) + 1, tag.start - _LINE) : tag.start]


def inside_line(text: str, tag: Tag) -> bool:
    """Whether text stands in front of a tag on its line."""
    return bool(_line_before(text, tag).strip())


def starts_thought(text: str, tag: Tag, *, colon: bool = False) -> bool:
    """Whether an opening tag stands where a thought (or an answer) may begin.

    That is at the start of a line, after the end of a sentence, or right behind a Latin letter or a digit, where a
    sentence that speaks of the tag would have a space.

    Args:
        text: The text.
        tag: The tag in it.
        colon: Whether a colon is as good as the end of a sentence.
    """
    line = _line_before(text, tag)
    if not line.strip():
        return True
    if _LIST_MARK.search(line):
        return False
    last = line.rstrip()[-1]
    if last in _SENTENCE_END:
        return True
    if last in ":：":
        return colon or _ROLE_LABEL.fullmatch(line) is not None or text[tag.end : tag.end + 1] == "\n"
    return line[-1].isascii() and line[-1].isalnum()


def place_of_end(text: str, tag: Tag) -> int:
    """How clearly the place of a closing tag says that it ends a thought: `MENTION`, `INLINE`, `SENTENCE` or `END`."""
    before = text[max(0, tag.start - 80) : tag.start].rstrip(" \t")
    after = text[tag.end : tag.end + 80].lstrip(" \t")
    line = before[before.rfind("\n") + 1 :]
    if line and after and _LIST_MARK.search(line):
        return MENTION
    if not line or not after or after[0] in "\n<":
        return END
    if before[-1] in _SENTENCE_END + _AFTER_THOUGHT or before[-1].isdigit():
        return SENTENCE
    glued = text[tag.start - 1] not in " \t" and text[tag.end] not in " \t"
    return INLINE if glued or after[0].isupper() else MENTION


def speaks_of(text: str, tag: Tag) -> bool:
    """Whether the words next to a tag say that a sentence names it."""
    if place_of_end(text, tag) == MENTION:
        return True
    return bool(_CUE_BEFORE.search(text[max(0, tag.start - 20) : tag.start]) or _CUE_AFTER.match(text, tag.end))
