"""The numbers that an answer states, in whatever writing."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from .closed import closed_values
from .currency import amounts
from .expressions import MAX_LENGTH, evaluate_expression
from .final import boxed, final_part
from .latex_plain import clean_markup
from .normalise import fold, joined_digits
from .numerals import chinese_number, fractions_in_digits, in_digits, written
from .spoken import english_in_digits, scaled
from .units import COMPOUND, LATIN_UNITS, compound, known_unit

__all__ = ["Stated", "boxed", "chinese_number", "final_number", "final_part", "numbers_in", "pure_number"]

_CJK = r"\u4e00-\u9fff"
_NAME = r"(?:∠?\\?[A-Za-z](?:\w{0,3}|_\{?\w{1,3}\}?)(?:\([A-Za-z]\))?|\|[A-Z]{2}\||[A-Z]:[A-Z]|[\u4e00-\u9fff]{1,10})"
_ASSIGNED = re.compile(rf"^\s*{_NAME}\s*[=＝]\s*")
_LEADS = re.compile(
    r"^(?:打(?=.{1,2}折)|大约|大概|约为|约|一共|总共|共有|共|仅|为|是|≈|about|approximately|around)\s*(?=[-\d(.￥¥]|.{1,2}折)"
)
_MARKS = re.compile(r"\*\*|__|\\[()\[\]]|\$|￥|¥|€|£|\\(?:text|mathrm|mbox)\s*(?=\{)")
_VALUE = re.compile(
    r"(?<![A-Za-z\d.])(?:(?<![\d)])-)?"
    r"(?:\d+\s*\(\d+/\d+\)|\(\d+/\d+\)|\d+/\d+|(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:×10\^-?\d{1,2}(?!\d))?(?:\s*%|\s*[万亿])?"
)
_WORD = (
    rf"(?:(?:square|cubic|sq\.?|cu\.?) ?)?(?:(?:{LATIN_UNITS})|[A-Za-z]{{3,12}}|pm|am)(?![A-Za-z])"
    r"(?:\^?\{?-?[23²³]\}?)?"
)
_UNIT = (
    rf"(?:(?![万亿])[{_CJK}]{{1,6}}(?:/[{_CJK}]{{1,4}})?"
    rf"|(?i:{_WORD})(?:\s?(?:/|per|·)\s?(?i:{_WORD}))?)"
)
_PURE = re.compile(
    r"^(?P<number>[-+\d(.][-+\d\s.,()/%万亿*×÷^]*?)"
    rf"(?:\s*\(\s*(?P<note>{_UNIT})\s*\)|\s*(?P<unit>{_UNIT}))?\s*$"
)
# (2)(3) names two statements, and is not 6.
MARKED = re.compile(r"\s*(?:\(\s*\d{1,2}\s*\)\s*){2,}$")
# "325 000": groups of three digits set apart by spaces.
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![.,]?\d)")
_UNIT_AFTER = re.compile(rf"\s*\(?\s*({_UNIT})")
_DEGREE = r"(?:°|\^?\s*\{?\\(?:circ|degree)\}?)"
_CELSIUS = re.compile(rf"{_DEGREE}\s*(?:\\(?:mathrm|text))?\s*\{{?([CF])(?![A-Za-z])\}}?|(℃|℉)")
_DEGREE_WORD = re.compile(r"\bdegrees?\s+(Fahrenheit|Celsius)\b", re.IGNORECASE)
_ANGLE = re.compile(rf"(\d+)\s*{_DEGREE}\s*(\d+(?:\.\d+)?)\s*['′](?:\s*(\d+(?:\.\d+)?)\s*(?:''|[\"″]))?")
_DEGREES = re.compile(_DEGREE)
# 八折 is 80% of a price, 八五折 85%, 三成 30%.
_TENTHS = re.compile(
    r"^(\d(?:\.\d)?)(?:折|成)$|^([1-9])([1-9])折$|^([1-9])成([1-9])$|^([一二三四五六七八九])([一二三四五六七八九])折$"
)
_NESTED = re.compile(r"\(\s*(-?\d+)\s*\)\s*/\s*\(\s*(\d+)\s*\)")
_HALF = re.compile(
    r"(?P<whole>\d+)\s*(?P<of>个|天|年|斤|块|米|元|吨|公斤|升|里|周|小时|公里|千克|亩|倍)半(?=[小月星钟]|\D?$)"
    r"|(?<![\u4e00-\u9fff\d])(?P<half>一半|半)$|(?<![\u4e00-\u9fff\d])半(?=小时|天|年|米|斤|公斤|千克|吨|个)"
)
_SPELLED = re.compile(r"[A-Za-z]{3}")
_PERCENT_WORD = re.compile(r"(?<=[\d)])(\s*)(?:percent(?:age)?|per\s?cent|pct)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Stated:
    """A number that an answer states.

    Attributes:
        value: Exactly what is written; 15% is 3/20, 3元5角 is 7/2.
        written: The number as text.
        unit: The word after it; may be empty.
        smallest: Of a quantity in several units, its value in the last of them (1小时30分钟: 90).
    """

    value: Fraction
    written: str
    unit: str = ""
    smallest: Fraction | None = None

    @property
    def percent(self) -> bool:
        return self.written.endswith("%")

    @property
    def decimals(self) -> int | None:
        """Digits after the decimal point, or `None` where there is none."""
        _, point, digits = self.written.rstrip("%万亿 ").partition(".")
        return len(digits) if point and digits.isdigit() else None


def _angle(match: re.Match[str]) -> str:
    """60°30' in degrees."""
    minutes = Fraction(match[2]) + Fraction(match[3] or 0) / 60
    return f"{written(int(match[1]) + minutes / 60)}度"


def _half(match: re.Match[str]) -> str:
    if match["whole"]:
        return f"{match['whole']}.5{match['of']}"
    return "(1/2)" if match["half"] else "0.5"


def _tenths(match: re.Match[str]) -> str:
    digits = [group for group in match.groups() if group]
    if len(digits) == 2:
        return "".join(str(chinese_number(digit)) for digit in digits) + "%"
    return f"{float(digits[0]) * 10:g}%"


def plain_numbers(text: str) -> str:
    """Chinese fractions and percentages in digits (二分之一 -> (1/2)), LaTeX and full-width forms in plain signs."""
    text = closed_values(amounts(joined_digits(fold(text))).replace("\\!", ""))
    if "°" in text or "℃" in text or "\\" in text:
        text = _CELSIUS.sub(
            lambda match: "华氏度" if "F" in (match[1] or match[2]) or match[2] == "℉" else "摄氏度", text
        )
        text = _DEGREES.sub("度", _ANGLE.sub(_angle, text))
    text = clean_markup(_MARKS.sub(" ", text)) if "\\" not in text else _MARKS.sub(" ", clean_markup(text))
    if "degree" in text:
        text = _DEGREE_WORD.sub(lambda match: "华氏度" if match[1][0] in "fF" else "摄氏度", text)
    text = _PERCENT_WORD.sub("%", fractions_in_digits(text))
    if "‰" in text:
        text = re.sub(r"(\d+(?:\.\d+)?)\s*‰", r"(\1/1000)", text)
    if "‱" in text:
        text = re.sub(r"(\d+(?:\.\d+)?)\s*‱", r"(\1/10000)", text)
    text = scaled(_SPACED.sub(lambda match: match[0].replace(" ", ""), text))
    return re.sub(r"\(\((-?\d+/\d+)\)\)", r"(\1)", _NESTED.sub(r"\1/\2", text))


def _compound(match: re.Match[str] | None) -> Stated | None:
    found = compound(match) if match else None
    return Stated(found[0], match[0], found[1], found[2]) if match and found else None


def pure_number(text: str) -> Stated | None:
    """The number of a text that is nothing but a number, with or without a name before and a unit after it."""
    if len(text) > 200:
        return None
    text = unicodedata.normalize("NFKC", plain_numbers(text)).strip(" \t\n。,;；，、{}").rstrip(" .")
    text = _LEADS.sub("", _ASSIGNED.sub("", text))
    tenths = _TENTHS.match(in_digits(text))
    if tenths:
        text = _tenths(tenths)
    spelled = _SPELLED.search(text)
    for plain in dict.fromkeys(
        (
            _HALF.sub(_half, in_digits(text)) if "半" in text else text,
            in_digits(text),
            scaled(_PERCENT_WORD.sub("%", english_in_digits(text))) if spelled else text,
        )
    ):
        whole = COMPOUND.fullmatch(plain.lstrip("-"))
        stated = _compound(whole)
        if stated is not None:
            sign = -1 if plain.startswith("-") else 1
            smallest = None if stated.smallest is None else sign * stated.smallest
            return Stated(sign * stated.value, plain, stated.unit, smallest)
        match = None if MARKED.match(plain) else _PURE.match(plain)
        if match is None or (whole and len(re.findall(r"\d", plain)) > 1 and not match):
            continue
        number = match["number"].strip()
        try:
            return Stated(evaluate_expression(number), number, match["unit"] or match["note"] or "")
        except ValueError:
            continue
    return None


def numbers_in(part: str) -> list[Stated]:
    """All numbers of a sentence in order. Only what follows the last equals sign counts."""
    part = plain_numbers(part[:MAX_LENGTH])
    if not re.search(r"\d", part):
        part = in_digits(part)
        part = part if re.search(r"\d", part) else english_in_digits(part)
    tail = re.split(r"[=≈]", part)[-1]
    for text in (tail, part):
        found: list[Stated] = []
        end = 0
        for match in _VALUE.finditer(text):
            if match.start() < end:
                continue
            quantity = COMPOUND.match(text, match.start())
            stated = _compound(quantity)
            if quantity and stated and quantity.end() > match.end():
                found.append(stated)
                end = quantity.end()
                continue
            unit = _UNIT_AFTER.match(text, match.end())
            try:
                value = evaluate_expression(match[0])
            except ValueError:
                continue
            name = known_unit(unit[1]) if unit else ""
            found.append(Stated(value, match[0].strip(), name))
            # the 2 of m^2 is no number
            end = unit.end(1) if unit and name and name[0].isascii() else end
        if found:
            return found
    return []


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
