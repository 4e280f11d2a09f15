"""Which numbers a calculation may use: those that a text states in any writing, what follows from them at once, and
the constants that every problem may take for granted."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

from hf_reason.answers.expressions import evaluate_expression
from hf_reason.answers.forms import plain_numbers
from hf_reason.answers.numerals import in_digits
from hf_reason.answers.spoken import english_in_digits
from hf_reason.answers.traditional import simplified

_NUMBER = re.compile(
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?\(\d+/\d+\)|\s*/\s*\d+(?:\.\d+)?|\s?[万亿]|\s?%)?|\.\d+"
)
# Numbers that a text states by a word: the value itself and its counterpart (half: 1/2, or divided by 2).
_WORDS = {
    "2": "half halve halves twice double doubles doubled couple pair pairs both 一半 半 两倍 双 对 翻倍 来回 往返",
    "3": "third thirds triple triples tripled thrice trio",
    "4": "quarter quarters fourth fourths quadruple quadrupled 季度",
    "5": "fifth fifths quintuple weekday weekdays nickel nickels",
    "6": "sixth sixths",
    "8": "eighth eighths",
    "9": "ninth ninths",
    "10": "tenth tenths dime dimes decade decades",
    "12": "dozen dozens foot feet inch inches",
    "16": "ounce ounces pound pounds",
    "20": "nickel nickels",
    "25": "quarter quarters",
    "32": "quart quarts",
    "36": "yard yards",
    "50": "half",
    "128": "gallon gallons",
    "2000": "ton tons",
    "5280": "mile miles",
}
_BY_WORD: dict[str, set[Fraction]] = {}
for _value, _names in _WORDS.items():
    for _name in _names.split():
        _BY_WORD.setdefault(_name, set()).update((Fraction(_value), 1 / Fraction(_value)))
# 7折, 八五折, 三成: tenths of a price.
_TENTHS = re.compile(r"([\d一二三四五六七八九]{1,2}(?:\.\d+)?)\s*[折成]")
_CHINESE_DIGITS = str.maketrans("一二三四五六七八九", "123456789")
_ENGLISH_WORD = re.compile(r"[A-Za-z]{3,10}")
_CHINESE_WORDS = [(name, values) for name, values in _BY_WORD.items() if not name.isascii()]
# What nobody has to be told: counts on the fingers, calendar and clock, scales, geometry.
_COUNTS = range(11)
_PLAIN = (
    "12 14 15 16 18 20 24 28 29 30 31 36 45 48 50 52 60 64 81 90 180 270 360 365 366 3600 3.14 3.1416 22/7 1.5 2.5"
)
# Numbers that any text has.
SMALL = frozenset({Fraction(count) for count in _COUNTS} | {1 / Fraction(count) for count in _COUNTS if count})
CONSTANTS = SMALL | {Fraction(text) for text in _PLAIN.split()} | {Fraction(10) ** power for power in range(-4, 9)}


@lru_cache(maxsize=2**14)
def _evaluated(text: str) -> Fraction | None:
    try:
        return evaluate_expression(text)
    except ValueError:
        return None


def _written(text: str) -> Iterator[Fraction]:
    for match in _NUMBER.finditer(text):
        # 3/4 may be a fraction, a division or a date: it states 3/4, and 3, and 4; 31(1/9) also 1/9
        parts = {match[0], *re.split(r"\s*/\s*|(?=\()", match[0]), match[0].rstrip("万亿% ")}
        for part in parts:
            value = _evaluated(part.strip("()") if part.count("(") != part.count(")") else part)
            if value is not None:
                yield value


# The operands of an expression: 31(1/9), 13/12, 1,200.5, 3万, 15%.
_OPERAND = re.compile(
    r"\d+\(\d+/\d+\)|\d+/\d+(?![\d.%])|(?P<number>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)[万亿]?%?)"
)
_ONE_NUMBER = re.compile(r"[-+(]*(?:\d+\(\d+/\d+\)|\d+/\d+|[\d.,]+[万亿]?%?)\)?(?:…+\d+)?")


@lru_cache(maxsize=2**12)
def stated_numbers(text: str) -> frozenset[Fraction]:
    """The values of all numbers in `text`: digits, fractions, percentages, Chinese and English number words."""
    plain = plain_numbers(simplified(text))
    found: set[Fraction] = set()
    for written in {plain, in_digits(plain), english_in_digits(plain), text}:  # 32 million states 32, too
        found.update(_written(written))
        for digits in _TENTHS.findall(written):
            digits = digits.translate(_CHINESE_DIGITS)
            found.add(Fraction(digits) / 10 ** len(digits.partition(".")[0]))
    for word in _ENGLISH_WORD.findall(text):
        found |= _BY_WORD.get(word.lower(), set())
    for name, values in _CHINESE_WORDS:
        if name in plain:
            found |= values
    return frozenset(found)


@lru_cache(maxsize=2**14)
def sizes(value: Fraction) -> frozenset[Fraction]:
    """A number without its sign, and the same as and without percent: 15 and 15%."""
    value = abs(value)
    return frozenset((value, value / 100, value * 100))


@lru_cache(maxsize=2**14)
def at_once(value: Fraction) -> frozenset[Fraction]:
    """What a reader gets from a number without a calculation: its size, 15 and 15%, what is left of a whole."""
    value = abs(value)
    found = set(sizes(value))
    if 0 < value < 1:
        found |= {1 - value, 1 + value, 100 * (1 - value), 100 * (1 + value)}
    elif 1 < value < 100:
        found |= {100 - value, 100 + value, 1 - value / 100, 1 + value / 100}
    if value:
        found.add(1 / value)
    return frozenset(found)


@lru_cache(maxsize=2**12)
def known_numbers(text: str) -> frozenset[Fraction]:
    """What a calculation may take from `text`: its numbers and what follows from each of them at once."""
    return frozenset().union(*map(at_once, stated_numbers(text)))


def is_one_number(text: str) -> bool:
    """Whether a side of an equation is a plain result: 12, 3万, 15%, 7/2, 31(1/9) or 3……2."""
    return _ONE_NUMBER.fullmatch(text) is not None


def operands(expression: str, known: Callable[[Fraction], bool] = lambda value: False) -> list[tuple[Fraction, ...]]:
    """The numbers that an expression is made of, each with its readings: 15% is 3/20 or 15.

    Args:
        expression: As `hf_reason.answers.equations.Equation` has it.
        known: Whether a value is known. A fraction in the expression (13/12, 31(1/9)) that is one is one number, and
            not two or three.
    """
    found: list[tuple[Fraction, ...]] = []
    for match in _OPERAND.finditer(expression):
        value = _evaluated(match[0])
        if value is None:
            continue
        if match["number"]:
            found.append((value, value * 100) if match[0].endswith("%") else (value,))
        elif match[0] != expression.strip("()") and known(value):
            found.append((value,))
        else:
            found += [(Fraction(digits),) for digits in re.findall(r"\d+", match[0])]
    return found
