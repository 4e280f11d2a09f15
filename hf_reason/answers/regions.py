"""Intervals and inequalities as the same thing: numbers between bounds."""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from .forms import pure_number
from .symbolic import numeric

Bound = Fraction | float
_SIGNS = tuple(
    (names, sign)
    for sign, words in {
        "≤": "\\leqslant \\leq \\le <= ⩽ 小于等于 不大于",
        "≥": "\\geqslant \\geq \\ge >= ⩾ 大于等于 不小于",
        "≠": "\\neq \\ne != 不等于",
        "<": "\\lt 小于",
        ">": "\\gt 大于",
        "∞": "\\infty 无穷大 无穷 infinity oo",
        "∪": "\\cup",
        "∈": "\\in",
        "|": "\\mid \\vert",
        "{": "\\{",
        "}": "\\}",
    }.items()
    for names in words.split()
)
_INTERVAL = re.compile(r"^([(\[])(.+?),(.+)([)\]])$")
_RELATION = re.compile(r"([<>≤≥≠])")
_VARIABLE = re.compile(r"^[A-Za-z](?:_\{?\w{1,2}\}?)?$|^[a-z]\([a-z]\)$|^[\u4e00-\u9fff]{1,4}$")
_MEMBER = re.compile(r"^([A-Za-z](?:_\{?\w{1,2}\}?)?|[A-Z])\s*(?:∈|=(?=\s*[\[({]))\s*(.+)$")
_BUILDER = re.compile(r"^\{\s*([a-z])\s*[|:]\s*(.+?)\s*\}$")
_ALL_REALS = re.compile(
    r"^(?:[a-z]\s*∈\s*)?(?:R|ℝ|\\math(?:bb|bf)\s*\{?R\}?|(?:全体|一切|任意|所有)实数|实数集R?|all real numbers)$"
)
_RANGE = re.compile(r"^(.{0,12}?\d.{0,8}?)\s*(?:至|到|\bto\b)\s*(-?\.?\d.{0,12})$")
_BOUND = r"(\d[\d.]*\s*(?:%|[\u4e00-\u9fff]{1,3}|[a-zA-Z]{1,8})?)"
_DASHED = re.compile(rf"^{_BOUND}\s*-\s*{_BOUND}$")
_FLIPPED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤", "≠": "≠"}


@dataclass(frozen=True)
class Interval:
    low: Bound
    low_in: bool
    high: Bound
    high_in: bool


def _bound(text: str) -> Bound | None:
    plain = text.strip().replace(" ", "")
    if plain in ("∞", "+∞"):
        return math.inf
    if plain in ("-∞", "负∞"):
        return -math.inf
    stated = pure_number(text)
    if stated is not None:
        return stated.value
    return numeric(text)


def _half_line(sign: str, value: Bound) -> list[Interval]:
    """The numbers x with `x sign value`."""
    if sign == "≠":
        return [Interval(-math.inf, False, value, False), Interval(value, False, math.inf, False)]
    if sign in "<≤":
        return [Interval(-math.inf, False, value, sign == "≤")]
    return [Interval(value, sign == "≥", math.inf, False)]


def _inequality(text: str) -> tuple[str, list[Interval]] | None:
    """x≥3, 3<x, 1<x≤2."""
    parts = [part.strip() for part in _RELATION.split(text)]
    if len(parts) == 3 and not parts[0]:
        # 大于3
        parts[0] = "x"
    if len(parts) == 3:
        left, sign, right = parts
        if not _VARIABLE.match(left.lstrip("- ")):
            left, sign, right = right, _FLIPPED[sign], left
        negative = left.startswith("-") and _VARIABLE.match(left[1:].strip())
        value = _bound(right) if negative or _VARIABLE.match(left) else None
        if negative and value is not None:
            return left[1:].strip(), _half_line(_FLIPPED[sign], -value)
        return None if value is None else (left, _half_line(sign, value))
    if len(parts) != 5 or not _VARIABLE.match(parts[2]):
        return None
    low, high = _bound(parts[0]), _bound(parts[4])
    if low is None or high is None:
        return None
    first, second = parts[1], parts[3]
    if first in ">≥" and second in ">≥":
        low, high, first, second = high, low, _FLIPPED[second], _FLIPPED[first]
    if first not in "<≤" or second not in "<≤":
        return None
    return parts[2], [Interval(low, first == "≤", high, second == "≤")]


def meet(one: list[Interval], other: list[Interval]) -> list[Interval]:
    """The numbers that lie in both."""
    found = []
    for left in one:
        for right in other:
            low, low_in = max((left.low, not left.low_in), (right.low, not right.low_in))
            high, high_in = min((left.high, left.high_in), (right.high, right.high_in))
            if low < high or (low == high and not low_in and high_in):
                found.append(Interval(low, not low_in, high, high_in))
    return found


def _piece(text: str) -> tuple[str, list[Interval]] | None:
    text = text.strip()
    interval = _INTERVAL.match(text)
    if interval:
        low, high = _bound(interval[2]), _bound(interval[3])
        if low is None or high is None or low > high:
            return None
        return "", [Interval(low, interval[1] == "[", high, interval[4] == "]")]
    if re.search(r"[且]|\band\b", text):
        found = [_piece(part) for part in re.split(r"且|\band\b", text)]
        if any(part is None for part in found):
            return None
        name, met = found[0][0], found[0][1]  # type: ignore[index]
        for part in found[1:]:
            if part is None or part[0] != name:
                return None
            met = meet(met, part[1])
        return name, met
    return _inequality(text)


def read_spread(text: str) -> tuple[str, tuple[Interval, ...]] | None:
    """10~20 (or 10%-20%, 3到5天) as a closed interval, named by its unit."""
    match = _RANGE.match(text) or _DASHED.match(text)
    if match is None:
        return None
    low, high = pure_number(match[1]), pure_number(match[2])
    if low is None or high is None or not low.value < high.value:
        return None
    if low.unit and high.unit and low.unit != high.unit:
        return None
    if high.percent and not low.percent and not low.unit:
        low = replace(low, value=low.value / 100)
    return high.unit or low.unit, (Interval(low.value, True, high.value, True),)


def read_region(text: str) -> tuple[str, tuple[Interval, ...]] | None:
    """The name (may be empty) and the intervals of a text that is an inequality, an interval or a union of them.

    A pair in round brackets, (1,2), is no region: it may be a point.
    """
    text = text.strip()
    if not re.search(r"[<>≤≥≠⩽⩾∞∪∈\[\]于]|!=|\\(?:le|ge|ne|lt|gt|in|cup|mathb)|oo|^R$|ℝ|实数|real", text):
        return None
    for sign, plain in _SIGNS:
        text = text.replace(sign, plain)
    if _ALL_REALS.match(text):
        return "", (Interval(-math.inf, False, math.inf, False),)
    name = ""
    member = _MEMBER.match(text.strip())
    if member:
        name, text = member[1], member[2]
    builder = _BUILDER.match(text.strip())
    if builder:
        text = builder[2]
    pieces = re.split(r"∪|或者?|\bor\b|(?<=[)\]])\s*U\s*(?=[(\[])", text)
    intervals: list[Interval] = []
    for piece in pieces:
        found = _piece(piece)
        if found is None or (found[0] and name and found[0] != name and not member):
            return None
        name = name or found[0]
        intervals += found[1]
    point = len(intervals) == 1 and not member and text.strip().startswith("(") and text.strip().endswith(")")
    if point and math.inf not in (abs(intervals[0].low), abs(intervals[0].high)):
        return None
    if member and len(member[1]) == 1 and member[1].isupper():
        name = ""
    return name, tuple(sorted(intervals, key=lambda interval: (interval.low, interval.high)))
