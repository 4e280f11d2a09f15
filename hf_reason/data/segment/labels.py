"""The numbers in front of steps: how they are written, and where one may stand.

Every pattern reads simplified Chinese; `hf_reason.answers.traditional.simplified` keeps positions, so the caller
folds the chain once and cuts the original.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from .sentences import ABBREVIATION, is_han

_HAN = "一二三四五六七八九十"
_ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CIRCLED = "①-⑳❶-❿"
_ROMAN = r"(?:[Ⅰ-Ⅻ]|[ⅰ-ⅻ]|(?<![A-Za-z])(?:[IVX]{1,5}|[ivx]{1,5})(?![A-Za-z]))"
_NUMBER = rf"\d{{1,3}}|[{_HAN}]{{1,3}}|[{_CIRCLED}]|{_ROMAN}"
# Behind "(1)" or "①": signs that it is a number or the name of an equation, not the label of a step.
_USED = r"(?![ \t]*(?:[+×÷=＝<>≤≥^·/,，]|[-−][ \t]|\*(?!\*))|式|和|与|得|代入|、)"
# Behind "第一问" or "方法一": signs that a sentence speaks of it.
_MENTIONED = r"(?![ \t]*(?:[的和与或及跟、到至中里都也是]|\d))"
_ENGLISH_PARTS = r"part|case|method|approach|question|scenario|solution"
_LABEL = (
    rf"(?P<open>[【\[(（])?(?:步骤[ \t]*(?P<zh_step>{_NUMBER})"
    rf"|第[ \t]*(?P<zh_order>{_NUMBER})[ \t]*个?步骤?"
    rf"|(?i:step)[ \t]*#?(?P<en_step>{_NUMBER}|(?i:{'|'.join(_ENGLISH)})\b)(?:[ \t]*(?:/|of)[ \t]*\d{{1,3}})?)"
    r"(?(open)[】\])）])"
    rf"|(?P<zh_part>第[ \t]*[(（]?(?:{_NUMBER})[)）]?[ \t]*(?:小?[问题]|部分|阶段|种(?:情况|情形|方法|解法|思路)))"
    rf"{_MENTIONED}"
    rf"|(?P<ordinal>第[{_HAN}]{{1,3}})(?=[，,、：:])"
    r"|(?P<zh_named>(?:情况|情形|方法|解法|方案|思路|小?问题?|小题|阶段|部分)"
    rf"[ \t]*[(（]?(?:{_NUMBER}|[A-H](?=[ \t]*(?:[:：]|\n)))[)）]?){_MENTIONED}"
    rf"|(?P<en_part>(?i:{_ENGLISH_PARTS})[ \t]+[(（]?(?:{_NUMBER}|[A-Ha-h]\b)[)）]?)"
    r"(?=[ \t]*(?:[:：.,(（—*-]|\n|\Z)|[ \t]+(?i:step))"
    r"|(?P<dot>\d{1,3})[.．](?:(?![\d.．])|(?=\d+\.\d+[ \t]*[×÷+*/=＝]))"  # "3.3.5×2=7" is 3.5×2=7
    rf"|(?P<right>\d{{1,3}})[)）]{_USED}"
    rf"|[(（][ \t]?(?P<round>\d{{1,3}})[ \t]?[)）]{_USED}"
    rf"|(?P<circle>[①-⑳]){_USED}|(?P<disc>[❶-❿]){_USED}|(?P<round_sign>[⑴-⒇]){_USED}|(?P<dot_sign>[⒈-⒛])"
    rf"|(?P<han_sign>[㈠-㈩]){_USED}"
    r"|(?P<comma>\d{1,3})、(?!\d+、)"
    rf"|(?P<han>[{_HAN}]{{1,3}})(?:、(?![{_HAN}]+、)|[.．](?!\d))"
    rf"|[(（](?P<han_round>[{_HAN}]{{1,3}})[)）]{_USED}"
    rf"|(?P<roman>{_ROMAN})[.．、](?=[\s\u3400-\u9fff])|(?P<roman_right>{_ROMAN})[)）]{_USED}"
    rf"|[(（](?P<roman_round>{_ROMAN})[)）]{_USED}"
    rf"|(?<![A-Za-z\d])(?P<letter>[a-h])[)）]{_USED}|[(（](?P<letter_round>[a-h])[)）]{_USED}"
    r"|(?<![A-Za-z\d])(?P<option>[A-H])[.．、:：)）](?![A-H]、)|[(（](?P<option_round>[A-H])[)）]"
)
# What a label begins with, and what follows a digit, a numeral or a character of prose there: nine tenths of the time
# go where it is not looked at first. `re` skips to the first of these characters.
_MAY_BEGIN = re.compile(
    rf"[\d\[(（【步第情方解思小问题阶部{_HAN}{_CIRCLED}⑴-⒛㈠-㈩Ⅰ-ⅻA-IMPQSVXa-imqpsvx]"
    rf"(?:(?<=\d)(?=\d{{0,2}}[.．)）、])|(?<=[{_HAN}])(?=[{_HAN}]{{0,2}}[.．、])"
    r"|(?<=步)(?=骤)|(?<=情)(?=[况形])|(?<=[方解])(?=[法案])|(?<=思)(?=路)|(?<=小)(?=[问题])|(?<=阶)(?=段)"
    rf"|(?<=部)(?=分)|(?<=[问题])(?=[题\d \t(（{_HAN}{_CIRCLED}Ⅰ-ⅻIVXivxA-H])"
    rf"|(?<![\d{_HAN}步情方解思小阶部问题A-Za-z])|(?<![A-Za-z].)(?<=[A-Za-z]))",
    re.DOTALL,
)
_FIND = re.compile(rf"(?<![A-Za-z])(?:{_LABEL})")
# What may come before a label: the line's start or the end of a sentence, then Markdown.
_HEAD = re.compile(
    r"(?:(?P<line>\A|\n)|(?P<before>[。；！？：，,;!?:.—]|(?<=\S)[ \t]))"
    r"(?P<lead>[ \t]*)(?P<mark>#{1,6}[ \t]+|[-*>][ \t]+)?(?P<bold>\*\*)?\Z"
)
_HEAD_LENGTH = 24
_WORDED = ("zh_step", "zh_order", "en_step")
_PARTS = ("zh_part", "zh_named", "en_part")
_SIGNS = ("circle", "disc", "round_sign", "dot_sign", "han_sign")
_BRACKETS = ("right", "round", "roman_right", "roman_round", "han_round")
_LETTERS = ("letter", "letter_round")
_SEPARATOR = re.compile(r"[ \t]*(?:[:：、,，)）]|[.．](?!\d+[ \t.:：、])|[-–—](?=[ \t]))")
_JOINED = re.compile(r"[ \t]*[和与到至及或~～]|[.．]\d|[ \t]+(?:and|or|to|through)\b")  # "步骤1和步骤2": a mention
_ENGLISH_TITLE = re.compile(r"[ \t]+(?![a-z])|\s*\Z|\s*\n")
_PART_NUMBER = re.compile(rf"(?P<number>{_NUMBER}|(?<![A-Za-z])[A-Ha-h])(?=[)）]?\s*\D{{0,4}}\Z)")
_BESIDE = "是为的中里"  # "第一步是...": cutting the label off would leave half a sentence
_UNFINISHED = "=＝+-*/×÷<>≈(（是为得到第约"  # "y = 1. Then": the number ends a sentence
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10}


@dataclass(slots=True, eq=False)
class Label:
    """A number in front of a step.

    Attributes:
        start: Where the label begins, with its Markdown.
        end: Where the step's own text begins; equal to `start` when the label is part of the sentence.
        value: The number.
        style: How it is written; a sequence has one style.
        indent: White space in front of it on its line.
        keep: Markdown that has to stay in front of the step (an opening `**` which closes later).
        place: `line` at the start of a line, `sentence` behind the end of one or a colon, `clause` behind a comma or
            a space, where only the items can tell whether it is a label.
    """

    start: int
    end: int
    value: int
    style: str
    indent: int
    keep: str = ""
    place: str = "line"

    @property
    def worded(self) -> bool:
        """Whether the label names a step ("步骤1", "Step 1") and is not a bare number."""
        return self.style in _WORDED

    @property
    def part(self) -> bool:
        """Whether it names a part that has steps of its own ("第一问", "方法二", "Case 1")."""
        return self.style.startswith(_PARTS)

    @property
    def option(self) -> bool:
        """Whether it is a choice of a question ("A.")."""
        return self.style.startswith("option")

    @property
    def sign(self) -> bool:
        """Whether it may as well be the name of an equation ("①", "(1)")."""
        return self.style in (*_SIGNS, "round")

    @property
    def letter(self) -> bool:
        """Whether it is a lower-case letter ("a)")."""
        return self.style.startswith("letter")


def _value(digits: str) -> int:
    lower = digits.lower()
    if digits.isdecimal():
        return int(digits)
    if lower in _ENGLISH:
        return _ENGLISH.index(lower) + 1
    if lower.strip("ivx") == "":
        values = [_ROMAN_VALUES[letter] for letter in lower]
        return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))
    if lower in "abcdefgh":
        return ord(lower) - ord("a") + 1
    if len(digits) == 1:
        return int(unicodedata.numeric(digits))
    tens, ten, ones = digits.rpartition("十")
    unit = _HAN.find(ones) + 1 if len(ones) == 1 else 0
    return unit + (10 * (_HAN.find(tens) + 1 if tens else 1) if ten else 0)


def _behind_clause(text: str, label: re.Match[str], style: str, head_start: int) -> str | None:
    """The place of a label behind a comma or a space."""
    if style in _SIGNS:  # "① 甲 ② 乙", "步骤1: 甲 步骤2: 乙": marks that nothing else uses
        return "sentence"
    if style in _WORDED:
        return "sentence" if _SEPARATOR.match(text, label.end()) else None
    if style in _BRACKETS or style.startswith("option"):
        return "clause"
    if style in _LETTERS:  # "a) add, b) multiply", but not the points (1, a), (2, b)
        before = text[max(0, head_start - _HEAD_LENGTH) : head_start]
        return "clause" if before.count("(") <= before.count(")") else None
    last = text[head_start - 1]
    open_end = text[head_start].isspace() and (last in _UNFINISHED or (last.isascii() and last.isalpha()))
    return "clause" if style == "dot" and not open_end else None


def _place(text: str, label: re.Match[str], head: re.Match[str], head_start: int) -> str | None:
    """Where a label stands, or `None` where no step may begin."""
    if head.group("line") is not None:
        return "line"
    before, spaced, style = head.group("before"), bool(head.group("lead")), label.lastgroup or ""
    if head.group("mark"):  # "three parts - 1. Add": a dash, not a minus
        dash = head.group("mark").startswith("-") and text[head_start - 1 : head_start].isalpha()
        return "sentence" if dash else None
    if before in "。；！？：—":
        return "sentence"
    if before in "，, \t":
        return _behind_clause(text, label, style, head_start)
    if before == ".":
        return "sentence" if spaced and not ABBREVIATION.search(text[max(0, head_start - 12) : head_start]) else None
    if spaced:
        return "sentence"
    # "4×5=20;2.求总价": no space behind half-width marks in Chinese; but "3:1" is a ratio.
    after = text[label.end() : label.end() + 2].lstrip()
    ratio = before == ":" and text[max(0, head_start - 1) : head_start].isdigit()
    return "sentence" if after and (is_han(after[0]) or style in _WORDED) and not ratio else None


def _worded_end(text: str, start: int, end: int, style: str) -> int | None:
    """Where the text behind "步骤1" begins; `start` where the label is part of its sentence, `None` in a mention."""
    if _JOINED.match(text, end):
        return None
    if separator := _SEPARATOR.match(text, end):
        return separator.end()
    if text.startswith(tuple(_BESIDE), end) or (style == "en_step" and not _ENGLISH_TITLE.match(text, end)):
        return start
    return end


def _head_of(text: str, match: re.Match[str], origin: int) -> re.Match[str] | None:
    head = _HEAD.search(text[origin : match.start()])
    return None if head is None or (origin and head.group("line") == "") else head


def read_label(text: str, match: re.Match[str], behind: int = -1) -> Label | None:
    """The label at a match of `_LABEL`, or `None` if it is not a label there.

    Args:
        text: The chain, in simplified Chinese.
        match: A match of `_LABEL`.
        behind: Where the label before it ends; directly behind a label another one may stand (`（1）步骤1`).
    """
    style, origin = match.lastgroup or "", max(0, match.start() - _HEAD_LENGTH)
    head = None
    if match.start() == behind:
        start, place, indent, bold = behind, "sentence", 0, ""
    else:
        head = _head_of(text, match, origin)
        found = head and _place(text, match, head, origin + head.start())
        if not head or not found:
            return None
        start, place, bold = origin + head.end("lead"), found, head.group("bold") or ""
        indent = head.end("lead") - head.start("lead")
    if style in _PARTS:
        number = _PART_NUMBER.search(match.group(style))
        noun = match.group(style)[-1] if style == "zh_part" else match.group(style)[:2].lower()
        return Label(start, start, _value(number.group("number")) if number else 1, style + noun, indent, "", place)
    value, end = match.group(style), match.end()
    if style == "ordinal":  # "第一，...": part of its sentence
        return Label(start, start, _value(value[1:]), style, indent, "", place)
    if bold and text.startswith("**", end):
        end, bold = end + 2, ""
    if style in _WORDED:
        own = _worded_end(text, start, end, style)
        if own is None:
            return None
        end, bold = own, bold if own > start else ""
    elif style.startswith("roman"):
        style += "_upper" if value.isupper() else ""
    if head and style not in _WORDED and "#" in (head.group("mark") or ""):
        style += "#"  # numbers of headings are above numbers of lines
    if bold and text.startswith("**", end):
        end, bold = end + 2, ""
    if end > start:
        while end < len(text) and text[end] in " \t":
            end += 1
    return Label(start, end, _value(value), style, indent, bold, place)


def find_labels(text: str, blocked: bytes | bytearray) -> list[Label]:
    """Every label of a chain, in order, in linear time.

    Args:
        text: The chain, in simplified Chinese.
        blocked: One byte a character; labels at positions that are not 0 are passed over.
    """
    labels: list[Label] = []
    behind = -1
    for match in _candidates(text, len(text)):
        label = None if blocked[match.start()] else read_label(text, match, behind)
        if label is not None:
            labels.append(label)
            behind = label.end if label.end > label.start else -1
    return labels


def _candidates(text: str, end: int) -> Iterator[re.Match[str]]:
    """The matches of `_LABEL` in `text[:end]`, in order."""
    at = 0
    while place := _MAY_BEGIN.search(text, at, end):
        match = _FIND.match(text, place.start(), end)
        if match:
            yield match
        at = match.end() if match else place.start() + 1


def leading_label(step: str) -> Label | None:
    """The label that a step begins with, other than the name of a part or a choice."""
    match = next(_candidates(step, _HEAD_LENGTH), None)
    label = read_label(step, match) if match else None
    return label if label and label.start == 0 and not label.part and not label.option else None
