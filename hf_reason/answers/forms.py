"""What an answer says: the part of a text that is the final answer, and the number written in it."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from .expressions import MAX_LENGTH, evaluate_expression
from .latex_plain import clean_markup

_CJK = r"\u4e00-\u9fff"
_DIGITS = dict(
    zip("零〇一壹二两贰三叁四肆五伍六七八九", (0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9), strict=True)
)
_TENS = {"十": 10, "百": 100, "千": 1000}
_NUMERAL = "[零〇一二两三四五六七八九十百千万亿壹贰叁肆伍]"
_PLAIN_NUMERAL = re.compile(
    rf"(?<![第唯之统同单万千各]){_NUMERAL}+(?:点[零〇一二三四五六七八九]+)?(?![共样起定般直下旦些致切边起来半])"
)
_CN_PERCENT = re.compile(rf"百分之({_NUMERAL}+(?:点[零〇一二三四五六七八九]+)?|\d+(?:\.\d+)?)")
_CN_FRACTION = re.compile(rf"(?:({_NUMERAL}+|\d+)又)?({_NUMERAL}+|\d+)分之({_NUMERAL}+|\d+)")

_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_STATED = re.compile(
    r"(?:答案(?:应该|应当|就)?(?:是|为|选|[:：])+|[答解][:：]|故选|应选|结果(?:是|为|[:：])|####"
    r"|(?:final\s+)?answer\s*(?:is|[:：])(?:\s*:)?|the\s+result\s+is)\s*",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(r"^\s*(?:\\?[A-Za-z]\w{0,3}|[\u4e00-\u9fff]{1,10})\s*[=＝]\s*")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_MARKS = re.compile(r"\*\*|__|\\[()\[\]]|\$|￥|¥|°|\\circ|\^\{?\\circ\}?|\\(?:text|mathrm|mbox)\s*(?=\{)")
_VALUE = re.compile(
    r"(?<![A-Za-z\d.])(?:(?<![\d)])-)?"
    r"(?:\d+\s*\(\d+/\d+\)|\(\d+/\d+\)|\d+/\d+|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:\s*%|\s*[万亿])?"
)
_WORD = r"[A-Za-z]{3,12}|[mgshlLt]|[cdkm]m|[km]g|m[lL]|ft|in|lb|oz|pm|am"
_UNIT = (
    rf"(?:(?![万亿])[{_CJK}]{{1,6}}(?:/[{_CJK}]{{1,4}})?"
    rf"|(?:{_WORD})(?:\s?/\s?[A-Za-z]{{1,8}})?(?:\^?[23²³])?)(?![A-Za-z])"
)
_PURE = re.compile(
    r"^(?P<number>[-+\d(.][-+\d\s.,()/%万亿*×÷^]*?)"
    rf"(?:\s*\(\s*(?P<note>{_UNIT})\s*\)|\s*(?P<unit>{_UNIT}))?\s*$"
)
# "325 000": groups of three digits set apart by spaces.
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![.,]?\d)")
_UNIT_AFTER = re.compile(rf"\s*\(?\s*({_UNIT})")
_NESTED = re.compile(r"\(\s*(-?\d+)\s*\)\s*/\s*\(\s*(\d+)\s*\)")

_WRAPPED = re.compile(r"\(\((-?\d+/\d+)\)\)")

# What a unit counts in, and how many of the smallest unit it is.
UNITS: dict[str, tuple[str, Fraction]] = {}
for _dimension, _sizes in {
    "length": "毫米/mm 1 厘米/cm 10 分米/dm 100 米/m 1000 千米/公里/km 1000000",
    "mass": "毫克/mg 1 克/g 1000 千克/公斤/kg 1000000 吨/t 1000000000",
    "time": "秒/秒钟/s 1 分/分钟/min 60 小时/时/h 3600 天/日 86400",
    "money": "分钱 1 角 10 元/块 100",
    "area": "平方毫米 1 平方厘米/cm2 100 平方分米/dm2 10000 平方米/m2 1000000 公顷 10000000000 "
    "平方千米/km2 1000000000000",
    "volume": "毫升/立方厘米/ml/cm3 1 升/立方分米/l/dm3 1000 立方米/m3 1000000",
}.items():
    _words = _sizes.split()
    for _names, _size in zip(_words[::2], _words[1::2], strict=True):
        UNITS |= {name: (_dimension, Fraction(_size)) for name in _names.split("/")}


@dataclass(frozen=True)
class Stated:
    """A number that an answer states.

    Attributes:
        value: Exactly what is written; 15% is 3/20.
        written: The number as text.
        unit: The word after it, lower case; may be empty.
    """

    value: Fraction
    written: str
    unit: str = ""

    @property
    def percent(self) -> bool:
        return self.written.endswith("%")

    @property
    def decimals(self) -> int | None:
        """Digits after the decimal point, or `None` where there is none."""
        _, point, digits = self.written.rstrip("%万亿 ").partition(".")
        return len(digits) if point and digits.isdigit() else None


def chinese_number(text: str) -> Fraction:
    """The value of a Chinese numeral such as 三百二十一, 一万两千 or 三点五; digits are taken as they are.

    Raises:
        ValueError: `text` is not a numeral.
    """
    if text.replace(".", "", 1).isdigit():
        return Fraction(text)
    whole, _, decimals = text.partition("点")
    total = section = digit = 0
    for char in whole:
        if char in _DIGITS:
            # 二〇二四 is read digit by digit.
            digit = digit * 10 + _DIGITS[char]
        elif char in _TENS:
            section += (digit or 1) * _TENS[char]
            digit = 0
        elif char in "万亿":
            total = (total + section + digit) * (10**4 if char == "万" else 10**8)
            section = digit = 0
        else:
            raise ValueError(f"{text!r} is not a Chinese numeral.")
    value = Fraction(total + section + digit)
    if decimals:
        value += Fraction(int("".join(str(_DIGITS[char]) for char in decimals)), 10 ** len(decimals))
    return value


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else repr(float(value))


def _fraction(match: re.Match[str]) -> str:
    lower, upper = chinese_number(match[2]), chinese_number(match[3])
    return f"{chinese_number(match[1]) if match[1] else ''}({upper}/{lower})"


def plain_numbers(text: str) -> str:
    """Chinese fractions and percentages in digits (二分之一 -> (1/2)), LaTeX and full-width forms in plain signs."""
    text = clean_markup(_MARKS.sub(" ", text)) if "\\" not in text else _MARKS.sub(" ", clean_markup(text))
    if "分之" in text:
        text = _CN_PERCENT.sub(lambda match: _decimal(chinese_number(match[1])) + "%", text)
        text = _CN_FRACTION.sub(_fraction, text)
    text = _SPACED.sub(lambda match: match[0].replace(" ", ""), text)
    return _WRAPPED.sub(r"(\1)", _NESTED.sub(r"\1/\2", text))


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, or `None`."""
    matches = list(_BOXED.finditer(text))
    if not matches:
        return None
    start, depth = matches[-1].end(), 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at].strip()
    return None


def final_part(text: str) -> tuple[str, bool]:
    """The part of an answer that states the result, and whether the text marks it as such.

    Marked are `\\boxed{...}`, `<answer>`, 答案是..., 答：..., "the answer is ..." and "#### ..."; otherwise the
    part is the last sentence.
    """
    found = boxed(text)
    if found is not None:
        return found, True
    tagged = _TAGGED.findall(text)
    if tagged:
        text = tagged[-1].strip()
    stated = list(_STATED.finditer(text))
    if stated:
        tail = text[stated[-1].end() :].strip()
        first = _SENTENCE_END.split(tail, maxsplit=1)[0].strip() if tail else ""
        if first:
            return first, True
    sentences = [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
    return (sentences[-1] if sentences else ""), bool(tagged)


def pure_number(text: str) -> Stated | None:
    """The number of a text that is nothing but a number, with or without a name before and a unit after it."""
    if len(text) > 200:
        return None
    text = unicodedata.normalize("NFKC", plain_numbers(text)).strip(" \t\n.。,;；，、")
    text = _ASSIGNED.sub("", text)
    match = _PURE.match(text)
    if match is None:
        text = _PLAIN_NUMERAL.sub(_numeral, text, count=1)
        match = _PURE.match(text)
    if match is None:
        return None
    number = match["number"].strip()
    try:
        return Stated(
            evaluate_expression(number), number, (match["unit"] or match["note"] or "").lower().replace("^", "")
        )
    except ValueError:
        return None


def _numeral(match: re.Match[str]) -> str:
    return _decimal(chinese_number(match[0]))


def numbers_in(part: str) -> list[Stated]:
    """All numbers of a sentence in order. Only what follows the last equals sign counts."""
    part = plain_numbers(part[:MAX_LENGTH])
    if not re.search(r"\d", part):
        part = _PLAIN_NUMERAL.sub(_numeral, part)
    tail = re.split(r"[=≈]", part)[-1]
    for text in (tail, part):
        found = []
        for match in _VALUE.finditer(text):
            unit = _UNIT_AFTER.match(text, match.end())
            try:
                value = evaluate_expression(match[0])
            except ValueError:
                continue
            found.append(Stated(value, match[0].strip(), _known_unit(unit[1]) if unit else ""))
        if found:
            return found
    return []


def _known_unit(word: str) -> str:
    """The unit that a run of characters starts with (米的绳子 -> 米), or nothing."""
    word = word.lower().replace("^", "")
    fits: Callable[[str], bool] = word.startswith if word and not word[0].isascii() else word.__eq__
    return max((name for name in UNITS if fits(name)), key=len, default="")


def final_number(text: str) -> Fraction | None:
    """The number that an answer states: the boxed or announced one, else the last one of the last sentence.

    Takes digits in any writing (15%, 31(1/9), `\\frac{11}{20}`, 3万) and Chinese numerals. `None` if
    there is no number.
    """
    part, _ = final_part(text)
    whole = pure_number(part)
    if whole is not None:
        return whole.value
    found = numbers_in(part)
    if not found:
        found = numbers_in(text[-MAX_LENGTH:])
    return found[-1].value if found else None
