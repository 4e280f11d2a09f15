"""The tags that published models and data sets put around a thought or an answer, as one pattern each.

A family is an opening tag with its closing one. Angle tags are told by their name (`<think>`, `<THINK>`,
`<seed:think>`, `<think time="3">`), the others are listed. `TagFamilies` also holds the ones that a user names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .rows import SourceError

# Names of angle tags, with what models add to them: `<longcat_think>`, `<think_fast>`.
_NAMES = (
    "think(?:ing)?|thoughts?|reason(?:ing)?|rationale|scratch_?pad|cot|chain[_-]of[_-]thought|inner_monologue|antthinking|"
    "思考|思考过程|思考過程|推理|推理过程|推理過程|思维链|思維鏈"
)
THOUGHT_NAME = rf"(?:[a-z]\w{{0,20}}[:_])?(?:{_NAMES})(?:_[a-z]\w{{0,20}})?"
_ATTRIBUTES = r"(?:\s[^<>＜＞]{0,200})?"

_MARKED = ("think", "thinking", "thought", "reasoning", "cot")
# Tags that say in words where they start and end, plain and as special tokens.
_STARTS_AND_ENDS = tuple(
    (f"<{bar}{start.format(name)}{bar}>", f"<{bar}{end.format(name)}{bar}>")
    for name in _MARKED
    for bar in ("", "|")
    for start, end in (("{}_start", "{}_end"), ("begin_of_{}", "end_of_{}"))
)
PAIRS = (
    *_STARTS_AND_ENDS,
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    *((f"<|{name}|>", f"<|/{name}|>") for name in _MARKED),
    ("<start_working_out>", "<end_working_out>"),
    ("<unused94>thought", "<unused95>"),  # MedGemma
    ("<|channel>thought", "<channel|>"),  # Gemma
    ("[unused16]", "[unused17]"),  # openPangu
    ("【思考】", "【/思考】"),
)
# What marks an answer. `WHOLE` only counts where it encloses all that follows a thought: it may be markup elsewhere.
ANSWER = r"<(?P<name>answer|Output)>(?P<text>.*?)(?:</(?P=name)>|\Z)"
_ANSWER_PAIRS = (("<|begin_of_solution|>", "<|end_of_solution|>"), ("<|START_RESPONSE|>", "<|END_RESPONSE|>"))
WHOLE = re.compile(
    r"\s*<(?P<name>answer|output|final|final_answer|response|solution|conclusion|回答|答案)>(?P<text>.*?)</(?P=name)>\s*",
    re.DOTALL | re.IGNORECASE,
)
ANSWERS = re.compile(
    "|".join(
        [
            ANSWER,
            *(
                f"{re.escape(start)}(?P<text{i}>.*?)(?:{re.escape(end)}|\\Z)"
                for i, (start, end) in enumerate(_ANSWER_PAIRS)
            ),
        ]
    ),
    re.DOTALL,
)


@dataclass(frozen=True)
class Tag:
    """A tag in a text: where it stands, its family, and whether it closes."""

    start: int
    end: int
    family: str
    closes: bool


class TagFamilies:
    """Finds the tags of some families.

    Args:
        names: Pattern of the names of angle tags.
        pairs: Opening and closing tags that are no angle tags with the same name.
    """

    def __init__(self, names: str, pairs: Sequence[tuple[str, str]]):
        self._pairs = {tag.lower(): (pair[0], tag == pair[1]) for pair in pairs for tag in pair}
        patterns: dict[str, list[str]] = {}
        for tag in [tag for pair in pairs for tag in pair]:
            patterns.setdefault(tag[0], []).append(re.escape(tag))
        for first in "<＜" if names else "":
            angle = rf"[ \t]?(?P<slash>[/／]?)[ \t]?(?P<name>{names}){_ATTRIBUTES}[>＞]"
            patterns.setdefault(first, []).append(first + angle)
        # One pattern for each first character: a literal first character makes the search fast.
        self._patterns = {
            first: re.compile(
                f"{re.escape(first)}(?:{'|'.join(each.removeprefix(re.escape(first)) for each in found)})",
                re.IGNORECASE,
            )
            for first, found in patterns.items()
        }

    def find(self, text: str) -> list[Tag]:
        """Every tag of these families in `text`, in order."""
        found = [
            self._tag(match)
            for first, pattern in self._patterns.items()
            if first in text
            for match in pattern.finditer(text)
        ]
        return sorted(found, key=lambda tag: tag.start)

    def _tag(self, match: re.Match[str]) -> Tag:
        pair = self._pairs.get(match.group().lower())
        family, closes = pair or (match["name"].lower(), bool(match["slash"]))
        return Tag(match.start(), match.end(), family, closes)


KNOWN = TagFamilies(THOUGHT_NAME, PAIRS)


def check_thought_tags(names: Sequence[str]) -> None:
    """Raise `SourceError` unless each of `names` is a name, or an opening and a closing tag with a comma between."""
    for name in names:
        start, comma, end = (part.strip() for part in name.partition(","))
        if comma and (not start or not end or start == end or "," in end):
            raise SourceError(f"thought_tags: {name!r} must be OPEN,CLOSE: two different tags with one comma between.")
        if not comma and not re.fullmatch(r"[^\W\d][\w:.-]*", start):
            raise SourceError(
                f"thought_tags: {name!r} is no name of a tag. Write x for <x>...</x>, or OPEN,CLOSE, for example "
                "'[X],[/X]'."
            )


def named_families(names: Sequence[str]) -> TagFamilies:
    """The families that a user names: `x` for `<x>...</x>`, or `OPEN,CLOSE`."""
    check_thought_tags(names)
    pairs = [tuple(part.strip() for part in name.split(",")) for name in names if "," in name]
    angle = "|".join(re.escape(name.strip()) for name in names if "," not in name)
    return TagFamilies(angle, [(start, end) for start, end in pairs])
