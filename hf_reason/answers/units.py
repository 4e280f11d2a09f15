"""Units in whatever writing: what they measure, and quantities in several of them (3元5角, 1小时30分钟, 5'10\")."""

import re
from fractions import Fraction
from functools import lru_cache

from .numerals import written
from .unit_table import UNITS, Dimension, Measure

__all__ = ["COMPOUND", "LATIN_UNITS", "UNITS", "compound", "in_last_unit", "known_unit", "measures"]

_NAMES = sorted(UNITS, key=len, reverse=True)
# Units of which people write several in a row.
_ROW = {"length", "mass", "time", "months", "money", "dollars", "degrees"}
_IN_ROWS = [
    name
    for name in _NAMES
    if any(len(found) == 1 and found[0][0] in _ROW for found, _ in UNITS[name]) or name in ("升", "毫升", "ml", "l")
]
_POWERS_IN_ROWS = [
    power + name for power in ("平方", "立方") for name in ("千米", "公里", "分米", "厘米", "毫米", "米")
]
_CHINESE = "|".join(
    re.escape(name) for name in [*_POWERS_IN_ROWS, "公顷", *_IN_ROWS] if not name[0].isalpha() or not name.isascii()
)
_LATIN = "|".join(name for name in _IN_ROWS if name.isascii() and name[0].isalpha())
_UNIT = rf"(?:{_CHINESE}|(?i:{_LATIN})(?![A-Za-z])\.?)"
# All units in Latin or Greek letters, for a pattern of what may follow a number.
LATIN_UNITS = "|".join(re.escape(name) for name in _NAMES if name[0].isalpha() and not "\u4e00" <= name[0] <= "\u9fff")
_NUMBER = r"\d+(?:\.\d+)?"
_SPELLED = re.compile(r"^(square|cubic|sq\.?|cu\.?)\s*([a-z]+)$", re.IGNORECASE)
_POWER = re.compile(r"^(.+?)\^?\{?(-?[23²³])\}?$")
_POWERS = {"2": 2, "²": 2, "3": 3, "³": 3, "平方": 2, "立方": 3}
_PER = re.compile(r"\s*(?:/|每|\bper\b|\bp(?=h$))\s*")
_TIMES = re.compile(r"[·*×⋅]")
_LOOSE = {"元", "块", "米", "角", "公斤", "千克"}
COMPOUND = re.compile(
    rf"(?<![\d.])({_NUMBER})\s*({_UNIT})((?:\s*(?:零|又|和|and|,)?\s*{_NUMBER}\s*{_UNIT}){{1,6}}(?![\u4e00-\u9fff]?\d)"
    rf"|\s*\d\s*[毛角]\d(?![\d.]|\s*[\u4e00-\u9fffA-Za-z/%\"])|零?\d{{1,2}}(?![\d.]|\s*[\u4e00-\u9fffA-Za-z/%\"]))"
)
_PART = re.compile(rf"({_NUMBER})\s*({_UNIT})")
# After a number these begin another word: 3角形, 4分之, 5元素.
_OTHER_WORD = re.compile(r"[形素使候饭数之析别配布期度钟]|元[一二三]?次")
_FEET = {"'": "ft", "′": "ft", '"': "in", "″": "in"}


def known_unit(word: str) -> str:
    """The unit that a run of characters starts with (米的绳子 -> 米, km/h -> km/h), or nothing."""
    word = word.strip()
    if not word or measures(word):
        return word
    head, slash, tail = word.partition("/")
    if slash:
        head, tail = known_unit(head), known_unit(tail)
        return f"{head}/{tail}" if head and tail else ""
    if word[0].isascii():
        return ""
    power = word[:2] if word[:2] in _POWERS else ""
    rest = word.removeprefix(power)
    name = next((name for name in _NAMES if rest.startswith(name)), "")
    return "" if not name or _OTHER_WORD.match(rest[len(name) :]) else power + name


def _raised(found: Measure, power: int) -> Measure:
    dimension, size = found
    return tuple((base, exponent * power) for base, exponent in dimension), size**power


def _product(one: Measure, other: Measure, sign: int) -> Measure:
    exponents = dict(one[0])
    for base, exponent in other[0]:
        exponents[base] = exponents.get(base, 0) + sign * exponent
    dimension: Dimension = tuple(sorted((base, exponent) for base, exponent in exponents.items() if exponent))
    return dimension, one[1] * other[1] ** sign


@lru_cache(maxsize=4096)
def measures(word: str) -> tuple[Measure, ...]:
    """What a unit may measure, each as (dimension, size); empty for a word that is no unit (本, apples)."""
    word = word.strip().rstrip(".")
    for name in (word, word.lower()):
        if name in UNITS:
            return UNITS[name]
    if word[:1] in ("万", "亿"):
        scale = 10**4 if word[0] == "万" else 10**8
        return tuple((dimension, size * scale) for dimension, size in measures(word[1:]))
    parts = _PER.split(word)
    if len(parts) == 2 and all(parts):
        return tuple(_product(one, other, -1) for one in measures(parts[0]) for other in measures(parts[1]))
    if word[:2] in ("平方", "立方"):
        return _powers(word[2:], _POWERS[word[:2]])
    spelled = _SPELLED.match(word)
    if spelled:
        return _powers(spelled[2], 2 if spelled[1][0] in "sS" else 3)
    power = _POWER.match(word)
    if power and power[2] in _POWERS:
        return _powers(power[1], _POWERS[power[2]])
    parts = _TIMES.split(word)
    if len(parts) == 2 and all(parts):
        return tuple(_product(one, other, 1) for one in measures(parts[0]) for other in measures(parts[1]))
    return ()


def _powers(name: str, power: int) -> tuple[Measure, ...]:
    # 平方分 is no unit, and 平方 of an area neither.
    found = [measure for measure in measures(name) if measure[0] in ((("length", 1),), (("time", 1),))]
    return tuple(_raised(measure, power) for measure in found)


def _loose(match: re.Match[str], first: str) -> tuple[Fraction, str, Fraction] | None:
    """3块5 and 1米75"""
    if first not in _LOOSE or "零" in match[3]:
        return None
    digits = match[3].strip()
    if len(digits) > 1 and first != "米":
        return None
    value = Fraction(match[1]) + Fraction(int(digits), 10 ** len(digits))
    return value, first, value


def compound(match: re.Match[str]) -> tuple[Fraction, str, Fraction] | None:
    """A match of `COMPOUND` as its value in the first unit, that unit, and its value in the last unit.

    `None` where the units do not measure the same or do not descend (12米3个).
    """
    first = _FEET.get(match[2], match[2])
    parts = [(number, _FEET.get(name, name) if first == "ft" else name) for number, name in _PART.findall(match[3])]
    if len(parts) == 1 and match[3][-1].isdigit():
        # 10块8毛5
        parts.append((match[3][-1], "分钱"))
    if not parts:
        return _loose(match, first)
    for dimension, size in measures(first):
        total, last = Fraction(match[1]) * size, size
        for number, name in parts:
            name = "min" if name == "m" and dimension == (("time", 1),) else name
            step = dict(measures(name)).get(dimension)
            if step is None or step >= last:
                break
            total, last = total + Fraction(number) * step, step
        else:
            return total / size, first, total / last
    return None


def in_last_unit(match: re.Match[str]) -> str:
    """A match of `COMPOUND` as one number in its last unit (2小时30分 -> 150分); what is no quantity stays."""
    parts = _PART.findall(match[3])
    found = compound(match) if parts else None
    return f"{written(found[2])}{parts[-1][1]}" if found else match[0]
