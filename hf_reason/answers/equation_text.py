"""Prose as the equation scanner wants it: LaTeX, words of arithmetic and compound quantities in plain signs."""

import re

from .equation_commas import assignments_apart
from .latex_plain import clean_markup
from .normalise import VULGAR, vulgar
from .numerals import NUMERAL, chinese_number, fractions_in_digits, join_large, written
from .spoken import formulas
from .units import COMPOUND, in_last_unit

_DEGREE = re.compile(r"°|\^\s*\{?\\circ\}?")
_ROOT = re.compile(r"(?:√|\\sqrt)\s*(?:\{([^{}]{1,30})\}|\(([^()]{1,30})\)|(\d+(?:\.\d+)?))")
_PERMILLE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)\s*‰")
_EXPONENT = re.compile(r"\^\{(-?\d+)\}")
_COUNTER = r"(?:个|只|本|辆|元|块|米|人|页|岁)?"
_NUMBER = rf"(?:(?<!{NUMERAL})(?:{NUMERAL}++(?:点{NUMERAL}++)?)|(?<!\d)\d+(?:\.\d+)?%?|\(\d+/\d+\))"
_OPERATOR = r"(?:加上?|减去?|乘以?|除以|[+×*÷-]|\bplus\b|\bminus\b|\btimes\b|\bdivided\s+by\b)"
# "Is one big number" states no result.
_SPOKEN = re.compile(
    rf"({_NUMBER}){_COUNTER}((?:\s*{_OPERATOR}\s*{_NUMBER}{_COUNTER}){{1,6}})\s*"
    rf"(?:(约?等于|得到?|=|\bequals?\b)\s*(?!一[个种次些条])({_NUMBER})|(?:是|\bis\b)\s*(\d+(?:\.\d+)?))(?!{NUMERAL}|[\d分点.])"
)
_WORDS = re.compile(r"[加减乘除]|plus|minus|times|divided")
_STEP = re.compile(rf"({_OPERATOR})\s*({_NUMBER})")
_SIGNS = {"加": "+", "减": "-", "乘": "×", "除": "÷", "p": "+", "m": "-", "t": "×", "d": "÷"}


def _digits(text: str) -> str:
    return written(chinese_number(text)) if re.match(NUMERAL, text) else text


def _equation(match: re.Match[str]) -> str:
    """三加五等于八 as 3+5=8."""
    first, steps, sign, result, named = match.groups()
    if not (_WORDS.search(match[0]) or re.search(NUMERAL, match[0])):
        return match[0]
    try:
        plain = _digits(first)
        for operator, number in _STEP.findall(steps):
            plain += _SIGNS.get(operator[0], operator[0]) + _digits(number)
        return f"{plain}{'≈' if sign == '约等于' else '='}{_digits(result or named)}"
    except ValueError:
        return match[0]


def _root(match: re.Match[str]) -> str:
    of = match[1] or match[2] or match[3]
    return f"{of}^(1/2)" if of.isdigit() else f"({of})^(1/2)"


def equation_text(text: str) -> str:
    """`text` with its arithmetic in plain signs; an equation that continues in the next line is joined."""
    if "°" in text or "\\circ" in text:
        text = _DEGREE.sub("度", text)
    if "万" in text or "亿" in text:
        text = join_large(text)
    if "‰" in text:
        text = _PERMILLE.sub(r"(\1/1000)", text)
    text = assignments_apart(text)
    if "分之" in text:
        text = fractions_in_digits(text)
    if "次方" in text or "平方" in text or "立方" in text or "根号" in text:
        text = _EXPONENT.sub(r"^\1", formulas(text))
    if "√" in text or "\\sqrt" in text:
        text = _ROOT.sub(_root, text)
    text = clean_markup(VULGAR.sub(vulgar, text))
    if _WORDS.search(text) or "=" in text:
        text = _SPOKEN.sub(_equation, text)
    return COMPOUND.sub(in_last_unit, text)
