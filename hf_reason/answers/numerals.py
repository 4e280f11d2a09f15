"""Chinese numerals of every kind: their value, and a text with digits in their place."""

import re
from fractions import Fraction

_DIGIT_VALUES = {
    char: value
    for value, chars in enumerate("零〇,一壹幺,二两贰俩,三叁,四肆,五伍,六陆,七柒,八捌,九玖".split(","))  # noqa: SIM905
    for char in chars
}
_TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_SPECIAL = {"廿": "二十", "卅": "三十", "億": "亿", "萬": "万", "兩": "两", "貳": "贰", "參": "叁", "陸": "陆"}
NUMERAL = "[零〇一壹二两贰三叁四肆五伍六陆七柒八捌九玖十拾百佰千仟万亿廿卅億萬兩貳參陸]"
_POINT = r"(?:点[零〇一二三四五六七八九]++(?![十刻分])(?:[万亿](?!分))?)"
# A numeral that is no part of a word (万一, 统一, 一样, 三角形, 一次函数) and no rough number (三百多, 十几).
PLAIN_NUMERAL = re.compile(
    rf"(?<![第唯之统同单各某几数每这那任{NUMERAL[1:-1]}])((?:(?!千[克米瓦卡]){NUMERAL})++{_POINT}?+)"
    r"(?![共样起定般直下旦些致切边起来半多余几维阶]|元[一二三]?次|次[方函幂]|[角边][形度函]|面体)"
)
_PERCENT = re.compile(rf"(负)?百分之({NUMERAL}+?{_POINT}?|\d+(?:\.\d+)?)(?!{NUMERAL}|点|\d)")
_PERMILLE = re.compile(rf"(负)?([千万])分之({NUMERAL}+{_POINT}?|\d+(?:\.\d+)?)")
# 三成二 is 32%; 成 begins many words.
_TENTHS = re.compile(
    rf"(?<!{NUMERAL})([一二三四五六七八九])成([一二三四五六七八九])?(?![立绩本功员为果分人长熟品语年交败就])"
)
_LARGE = (("亿", 10**8), ("万", 10**4))
_FRACTION = re.compile(rf"(?:({NUMERAL}+|\d+)又)?({NUMERAL}+|\d+)分之({NUMERAL}+{_POINT}?|\d+)")
# No quantity is written longer, in numerals or in digits.
_LONGEST = 100
_SCALES = {"亿": 10**8, "万": 10**4, "千": 1000, "百": 100, "十": 10}
_NEGATIVE = re.compile(rf"负(?=\s*(?:{NUMERAL}|\d|\())")
_BELOW = re.compile(rf"零下(?=\s*(?:{NUMERAL}|\d))")
_MIXED_SCALES = re.compile(
    r"(?<![\d.,])((?:\d+(?:\.\d+)?\s?[亿万千百](?![克米瓦升卡分兆赫帕])\s?){2,}(?:零?\d{1,4})?|\d+\s?[亿万]\s?零?\d{1,4})(?![\d.,])"
)
_SCALE_PART = re.compile(r"(\d+(?:\.\d+)?)\s?([亿万千百十])")
# 5千万, 3千5百万: what multiplies 万
_BEFORE_LARGE = re.compile(r"(?<![\d.,])((?:\d+(?:\.\d+)?\s?[千百十]\s?){1,3})(?=[万亿])")
_TWO_SCALES = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?)\s?万亿")
_ONE_SCALE = re.compile(r"(?<![\d.,])(\d+(?:\.\d+)?)\s?([千百])(?![克米瓦升卡分兆赫帕\d])")


def _digits(text: str) -> Fraction:
    return Fraction(int("".join(str(_DIGIT_VALUES[char]) for char in text)))


def _section(text: str) -> tuple[int, int]:
    """The value of a numeral below 万, and the last of its units (1 if it ends in a digit of its own)."""
    total, digit, unit, zero = 0, None, 0, False
    previous = 10**4
    for char in text:
        if char in _TENS:
            unit = _TENS[char]
            if unit >= previous or (digit is None and char not in "十拾"):
                raise ValueError
            total += (1 if digit is None else digit) * unit
            digit, zero, previous = None, False, unit
        elif _DIGIT_VALUES[char] == 0:
            if digit is not None:
                raise ValueError
            zero = True
        elif digit is not None:
            # 两三, 七八: about so many
            raise ValueError
        else:
            digit = _DIGIT_VALUES[char]
    if digit is not None:
        # 三百五 is 350 and 三百零五 is 305.
        total += digit * (unit // 10 if unit > 10 and not zero else 1)
    return total, unit


def _whole(text: str, large: tuple[tuple[str, int], ...] = _LARGE) -> Fraction:
    for at, (char, size) in enumerate(large):
        head, found, tail = text.rpartition(char)
        if found:
            if not head or head[-1] == "零":
                raise ValueError
            value = _whole(head, large[at:] if char in head else large[at + 1 :] if char == "万" else large[1:]) * size
            if not tail:
                return value
            if len(tail) == 1 and tail in _DIGIT_VALUES and _DIGIT_VALUES[tail]:
                # 三万五 is 35000; 三万零五 is 30005.
                return value + _DIGIT_VALUES[tail] * size // 10
            return value + _whole(tail, large[at + 1 :])
    if not text:
        raise ValueError
    if not any(char in _TENS for char in text):
        if len(text) > 1 and (len(text) == 2 and not set(text) & set("零〇") or "两" in text):
            raise ValueError
        return _digits(text)
    return Fraction(_section(text)[0])


def chinese_number(text: str) -> Fraction:
    """The value of a Chinese numeral such as 三百二十一, 一万两千, 一亿二千万, 三万五 (35000), 伍仟, 负三 or 三点五.

    A number in digits is taken as it is, and a row of digits (二〇二四) is read digit by digit.

    Raises:
        ValueError: `text` is not a numeral, or a rough one (两三, 七八十).
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:20]!r}... is too long for a Chinese numeral.")
    if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit():
        return Fraction(text)
    plain = "".join(_SPECIAL.get(char, char) for char in text)
    if plain.startswith("负"):
        return -chinese_number(plain[1:])
    whole, point, decimals = plain.partition("点")
    scale = 1
    if point and decimals[-1:] in _SCALES:
        scale, decimals = _SCALES[decimals[-1]], decimals[:-1]
    try:
        value = _whole(whole)
        if point:
            value += _digits(decimals) / 10 ** len(decimals)
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is not a Chinese numeral.") from None
    return value * scale


def written(value: Fraction) -> str:
    """A value in digits: a whole number, a decimal that ends, or `(p/q)`."""
    if value.denominator == 1:
        return str(value.numerator)
    for places in range(1, 13):
        if (value * 10**places).denominator == 1:
            digits = f"{abs(value) * 10**places}".zfill(places + 1)
            return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return f"({value.numerator}/{value.denominator})"


def _percent(match: re.Match[str]) -> str:
    try:
        return f"{'-' if match[1] else ''}{written(chinese_number(match[2]))}%"
    except ValueError:
        return match[0]


def _permille(match: re.Match[str]) -> str:
    try:
        return f"{'-' if match[1] else ''}({written(chinese_number(match[3]))}/{1000 if match[2] == '千' else 10000})"
    except ValueError:
        return match[0]


def _fraction(match: re.Match[str]) -> str:
    try:
        lower, upper = chinese_number(match[2]), chinese_number(match[3])
        return f"{written(chinese_number(match[1])) if match[1] else ''}({written(upper)}/{written(lower)})"
    except ValueError:
        return match[0]


def _numeral(match: re.Match[str]) -> str:
    try:
        return written(chinese_number(match[1]))
    except ValueError:
        return match[0]


def _scaled(match: re.Match[str]) -> str:
    """1亿2000万, 3万5千, 2千5百: one number."""
    total, end, last = Fraction(0), 0, 0
    for part in _SCALE_PART.finditer(match[0]):
        size = _SCALES[part[2]]
        if last and size >= last:
            return match[0]
        total += Fraction(part[1]) * size
        end, last = part.end(), size
    tail = match[0][end:].strip()
    if tail:
        total += int(tail.lstrip("零")) * (last // 10 if len(tail) == 1 and tail != "0" else 1)
    return written(total)


def join_large(text: str) -> str:
    """What multiplies 万 or 亿 as one number: 5千万 -> 5000万, 3千5百万 -> 3500万."""
    return _BEFORE_LARGE.sub(_scaled, text)


def join_scales(text: str) -> str:
    """Numbers written in parts (1亿2000万, 3万5千, 2千) as one number each; 3万 alone stays."""
    if not any(char in text for char in "亿万千百"):
        return text
    text = _TWO_SCALES.sub(lambda match: written(Fraction(match[1]) * 10**12), text)
    text = _MIXED_SCALES.sub(_scaled, join_large(text))
    return _ONE_SCALE.sub(lambda match: written(Fraction(match[1]) * _SCALES[match[2]]), text)


def fractions_in_digits(text: str) -> str:
    """百分之十五 -> 15%, 千分之五 -> (5/1000), 一又二分之一 -> 1(1/2), 负三 -> -三; parts of one number joined."""
    if "分之" in text:
        text = _PERCENT.sub(_percent, text)
        text = _PERMILLE.sub(_permille, text)
        text = _FRACTION.sub(_fraction, text)
    if "成" in text:
        text = _TENTHS.sub(
            lambda match: f"{_DIGIT_VALUES[match[1]]}{_DIGIT_VALUES[match[2]] if match[2] else 0}%", text
        )
    if "零下" in text:
        text = _BELOW.sub("-", text)
    if "负" in text:
        text = _NEGATIVE.sub("-", text)
    return join_scales(text)


def in_digits(text: str, count: int = 0) -> str:
    """A text with its numerals in digits; at most the first `count` of them, 0 for all.

    Numerals that belong to a word (统一, 一样, 三角形) or are rough (三百多, 两三) stay.
    """
    return PLAIN_NUMERAL.sub(_numeral, text, count=count)
