"""Numbering of reasoning steps: found where it runs in sequence, and removed without touching the step."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

_HAN = "一二三四五六七八九十"
_ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"
# Behind "(1)" or "①": signs that it is a number or the name of an equation, not the label of a step.
_USED = r"(?![ \t]*(?:[+×÷=＝<>≤≥^·/,，]|[-−][ \t])|式|和|与|得|代入|、)"
_LABEL = (
    rf"步骤[ \t]*(?P<zh_step>\d{{1,3}}|[{_HAN}]{{1,3}}|[{_CIRCLED}])"
    rf"|第[ \t]*(?P<zh_order>\d{{1,3}}|[{_HAN}]{{1,3}})[ \t]*步(?!骤)"
    rf"|(?i:step)[ \t]*(?P<en_step>\d{{1,3}}|(?i:{'|'.join(_ENGLISH)})\b)"
    r"|(?P<dot>\d{1,3})[.．](?![\d.．])"
    rf"|(?P<right>\d{{1,3}})[)）]{_USED}"
    rf"|[(（][ \t]?(?P<round>\d{{1,3}})[ \t]?[)）]{_USED}"
    rf"|(?P<circle>[{_CIRCLED}]){_USED}"
    r"|(?P<comma>\d{1,3})、(?!\d+、)"
    rf"|(?P<han>[{_HAN}]{{1,3}})、(?![{_HAN}]+、)"
    rf"|[(（](?P<han_round>[{_HAN}]{{1,3}})[)）]{_USED}"
)
_FIND = re.compile(_LABEL)
# What may come before a label: the line's start or the end of a sentence, then Markdown.
_HEAD = re.compile(
    r"(?:(?P<line>\A|\n)|(?P<before>[。；！？：，;!?:.,]|(?<=\S)[ \t]))"
    r"(?P<lead>[ \t]*)(?P<mark>#{1,6}[ \t]+|[-*>][ \t]+)?(?P<bold>\*\*)?\Z"
)
_HEAD_LENGTH = 24
_WORDED = ("zh_step", "zh_order", "en_step")
_SEPARATOR = re.compile(r"[ \t]*(?:[:：、,，)）]|[.．](?!\d+[ \t.:：、])|[-–—](?=[ \t]))")
_JOINED = re.compile(r"[ \t]*[和与到至及或~～]|[.．]\d")  # "步骤1和步骤2": a mention, not a label
_BESIDE = re.compile(r"[是为的中里]")  # "第一步是...": cutting the label off would leave half a sentence
_ENGLISH_TITLE = re.compile(r"[ \t]+(?![a-z])|\s*\Z|\s*\n")


@dataclass(frozen=True)
class Label:
    """A number in front of a step.

    Attributes:
        start: Where the label begins, with its Markdown.
        end: Where the step's own text begins; equal to `start` when the label is part of the sentence.
        value: The number.
        style: How it is written; a sequence has one style.
        indent: White space in front of it on its line.
        keep: Markdown that has to stay in front of the step (an opening `**` which closes later).
    """

    start: int
    end: int
    value: int
    style: str
    indent: int
    keep: str = ""

    @property
    def worded(self) -> bool:
        """Whether the label names a step ("步骤1", "Step 1") and is not a bare number."""
        return self.style in _WORDED


def _value(digits: str) -> int:
    if digits.isdecimal():
        return int(digits)
    if digits in _CIRCLED:
        return _CIRCLED.index(digits) + 1
    if digits.lower() in _ENGLISH:
        return _ENGLISH.index(digits.lower()) + 1
    tens, ten, ones = digits.rpartition("十")
    unit = _HAN.find(ones) + 1 if len(ones) == 1 else 0
    return unit + (10 * (_HAN.find(tens) + 1 if tens else 1) if ten else 0)


def _at_start(text: str, label: re.Match[str], head: re.Match[str]) -> bool:
    """Whether the label is where a step may begin: at the start of a line, or after a sentence."""
    if head.group("line") is not None:
        return True
    before, spaced, style = head.group("before"), bool(head.group("lead")), label.lastgroup
    if head.group("mark") or (before in ".;!?:" and not spaced):
        return False
    if before in "，, \t":  # "① 甲 ② 乙", "步骤1: 甲 步骤2: 乙": marks that nothing else uses
        return style == "circle" or (style in _WORDED and bool(_SEPARATOR.match(text, label.end())))
    if style in _WORDED:
        return True
    return before in "。；！？" or (before in "：:;!?" and style != "dot")


def _read(text: str, match: re.Match[str]) -> Label | None:
    """The label at a match of `_FIND`, or `None` if it is not a label there."""
    style, origin = match.lastgroup or "", max(0, match.start() - _HEAD_LENGTH)
    window = text[origin : match.start()]
    head = _HEAD.search(window)
    if head is None or (origin and head.group("line") == "") or not _at_start(text, match, head):
        return None
    start, end, bold = origin + head.end("lead"), match.end(), head.group("bold") or ""
    if bold and text.startswith("**", end):
        end, bold = end + 2, ""
    if style in _WORDED:
        if _JOINED.match(text, end):
            return None
        if separator := _SEPARATOR.match(text, end):
            end = separator.end()
        elif _BESIDE.match(text, end) or (style == "en_step" and not _ENGLISH_TITLE.match(text, end)):
            end, bold = start, ""
    if bold and text.startswith("**", end):
        end, bold = end + 2, ""
    if end > start:
        while end < len(text) and text[end] in " \t":
            end += 1
    return Label(start, end, _value(match.group(style)), style, head.end("lead") - head.start("lead"), bold)


def sequences(text: str, blocked: bytes | bytearray) -> list[list[Label]]:
    """Runs of at least two labels of one style that count up from 1 (or 0), in linear time.

    Args:
        text: The chain.
        blocked: One byte a character; labels at positions that are not 0 are passed over.
    """
    runs: list[list[Label]] = []
    # By style and by the number they expect next; a nested list gets its numbers before the outer one.
    waiting: dict[tuple[str, int], list[list[Label]]] = {}
    for match in _FIND.finditer(text):
        label = None if blocked[match.start()] else _read(text, match)
        if label is None:
            continue
        queue = waiting.get((label.style, label.value))
        if queue:
            run = queue.pop()
        elif label.value in (0, 1):
            run = []
            runs.append(run)
        else:
            continue
        run.append(label)
        waiting.setdefault((label.style, label.value + 1), []).append(run)
    return [run for run in runs if len(run) > 1]


def _leading(step: str) -> Label | None:
    match = _FIND.search(step, 0, _HEAD_LENGTH)
    label = _read(step, match) if match else None
    return label if label and label.start == 0 else None


def _without(step: str, label: Label) -> str:
    body = label.keep + step[label.end :].strip()
    return body if body else step


def strip_numbering(step: str) -> str:
    """`step` without the number in front of it; a number that is content (`3.5×2=7`, `12 + 4`) stays."""
    label = _leading(step.strip())
    return _without(step.strip(), label) if label else step.strip()


def strip_sequence(steps: Iterable[str]) -> list[str]:
    """`steps` without their numbering, if every one is numbered in one style and the numbers count up."""
    stripped = [step.strip() for step in steps]
    labels = [_leading(step) for step in stripped]
    found = [label for label in labels if label is not None]
    if not found or len(found) < len(stripped) or (len(found) == 1 and not found[0].worded):
        return stripped
    first = found[0]
    if any(label.style != first.style or label.value != first.value + i for i, label in enumerate(found)):
        return stripped
    return [_without(step, label) for step, label in zip(stripped, found, strict=True)]
