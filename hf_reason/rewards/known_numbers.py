"""Which numbers a calculation may use: those that a text states in any writing, what follows from them at once, and
the constants that every problem may take for granted."""

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache

from hf_reason.answers.expressions import Node, Number, evaluate_expression, parse_expression
from hf_reason.answers.forms import plain_numbers
from hf_reason.answers.numerals import in_digits
from hf_reason.answers.spoken import english_in_digits
from hf_reason.answers.traditional import simplified

_NUMBER = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?\(\d+/\d+\)|\s*/\s*\d+(?:\.\d+)?|\s?[万亿]|\s?%)?|\.\d+"
)
# Numbers that a text states by a word: the value itself and its counterpart (half: 1/2, or divided by 2).
_WORDS = {
    "2": "half halve halves twice double doubles doubled couple pair pairs both 一半 半 两倍 双 对 翻倍 翻番 来回 往返",
    "3": "third thirds triple triples tripled thrice trio",
    "4": "quarter quarters fourth fourths quadruple quadrupled 季度 季",
    "5": "fifth fifths quintuple weekday weekdays",
    "6": "sixth sixths",
    "8": "eighth eighths",
    "9": "ninth ninths",
    "10": "tenth tenths dime dimes decade decades 折 成",
    "12": "dozen dozens",
    "25": "quarter quarters",
    "20": "score",
    "50": "half",
}
_BY_WORD: dict[str, set[Fraction]] = {}
for _value, _names in _WORDS.items():
    for _name in _names.split():
        _BY_WORD.setdefault(_name, set()).update((Fraction(_value), 1 / Fraction(_value)))
_ENGLISH_WORD = re.compile(r"[A-Za-z]{4,10}")
_CHINESE_WORDS = [(name, values) for name, values in _BY_WORD.items() if not name.isascii()]
# What nobody has to be told: counts on the fingers, calendar and clock, scales, geometry.
_COUNTS = range(11)
_PLAIN = (
    "12 14 15 16 18 20 24 28 29 30 31 36 45 48 50 52 60 64 81 90 180 270 360 365 366 3600 3.14 3.1416 22/7 1.5 2.5"
)
CONSTANTS = frozenset(
    {Fraction(count) for count in _COUNTS}
    | {1 / Fraction(count) for count in _COUNTS if count}
    | {Fraction(text) for text in _PLAIN.split()}
    | {Fraction(10) ** power for power in range(-4, 9)}
)


def _written(text: str) -> Iterator[Fraction]:
    for match in _NUMBER.finditer(text):
        # 3/4 may be a fraction, a division or a date: it states 3/4, and 3, and 4; 31(1/9) also 1/9
        parts = {match[0], *re.split(r"\s*/\s*|(?=\()", match[0]), match[0].rstrip("万亿% ")}
        for part in parts:
            with suppress(ValueError):
                yield evaluate_expression(part.strip("()") if part.count("(") != part.count(")") else part)


@lru_cache(maxsize=2**12)
def stated_numbers(text: str) -> frozenset[Fraction]:
    """The values of all numbers in `text`: digits, fractions, percentages, Chinese and English number words."""
    plain = plain_numbers(simplified(text))
    found: set[Fraction] = set()
    for written in {plain, in_digits(plain), english_in_digits(plain)}:
        found.update(_written(written))
    for word in _ENGLISH_WORD.findall(text):
        found |= _BY_WORD.get(word.lower(), set())
    for name, values in _CHINESE_WORDS:
        if name in plain:
            found |= values
    return frozenset(found)


def at_once(value: Fraction) -> set[Fraction]:
    """What a reader gets from a number without a calculation: its size, 15 and 15%, what is left of a whole."""
    value = abs(value)
    found = {value, value / 100, value * 100}
    if 0 < value < 1:
        found |= {1 - value, 1 + value, 100 * (1 - value), 100 * (1 + value)}
    elif 1 < value < 100:
        found |= {100 - value, 100 + value, 1 - value / 100, 1 + value / 100}
    if value:
        found.add(1 / value)
    return found


@lru_cache(maxsize=2**12)
def known_numbers(text: str) -> frozenset[Fraction]:
    """What a calculation may take from `text`: its numbers and what follows from each of them at once."""
    return frozenset().union(*map(at_once, stated_numbers(text)))


def operands(expression: str) -> list[tuple[Fraction, ...]]:
    """The numbers that an expression is made of, each with its readings: 15% is 3/20 or 15, (1/4) also 1 and 4."""
    try:
        tree = parse_expression(expression)
    except ValueError:
        return []
    found: list[tuple[Fraction, ...]] = []
    pending: list[Node] = [tree]
    while pending:
        node = pending.pop()
        if not isinstance(node, Number):
            pending += [node.right, node.left]
        elif node.style == "percent":
            found.append((node.value, node.value * 100))
        else:
            found.append((node.value,))
    return found
