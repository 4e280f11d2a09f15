"""Numbers in English words (twenty-five, two thirds, 3 million), and formulas in Chinese words (根号2, 3的平方)."""

import re
from fractions import Fraction

from .numerals import NUMERAL, chinese_number, written

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_SMALL = {word: value for value, word in enumerate(_ONES)}
_SMALL |= {
    word: 10 * value
    for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
_SMALL["a"] = _SMALL["an"] = 1
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7}
_PARTS |= {"eighth": 8, "ninth": 9, "tenth": 10}
_WORD = "|".join(sorted({*_SMALL, *_LARGE, "hundred"} - {"a", "an"}, key=len, reverse=True))
_NUMBER = re.compile(
    rf"\b(?:(minus|negative)\s+)?((?:an?\s+(?=half|hundred|{'|'.join(_LARGE)})|(?:{_WORD})s?\b)"
    rf"(?:[\s-]*(?:and\s+)?\b(?:{_WORD})s?\b)*)"
    rf"(?:[\s-]*\b({'|'.join(_PARTS)})s?\b)?",
    re.IGNORECASE,
)
_HALF = re.compile(r"^\s*(?:a\s+)?(half|quarter)\b(?!-)(?:\s+of)?", re.IGNORECASE)
_SCALED = re.compile(rf"(?<![\d,])(\d[\d,]*(?:\.\d+)?)\s*({'|'.join(_LARGE)}|hundred)s?(?![A-Za-z])", re.IGNORECASE)
_NEGATIVE = re.compile(r"(?:^|(?<=is )|(?<=be )|(?<=: ))(?:negative|minus)\s+(?=[\d.])", re.IGNORECASE)
_DOZENS = re.compile(r"(?<!\d)(\d{1,6})\s*打(?![折\u4e00-\u9fff])")
_UNIT_HALF = re.compile(r"\b(?:an?|(\d+))\s+([a-z]+)\s+and\s+a\s+half\b", re.IGNORECASE)
_HALF_UNIT = re.compile(r"\b(?:(\d+)\s+and\s+a\s+half|half\s+an?)\s+(?=[a-z])", re.IGNORECASE)
_ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b(?:\s+place)?", re.IGNORECASE)
_CHINESE_ORDINAL = re.compile(rf"^第\s*(\d+|{NUMERAL}+)(?=\D{{0,4}}$)")
_OPERAND = rf"(?:(?<![\d.])\d+(?:\.\d+)?|[a-zπ]|\([^()]*\)|(?<!{NUMERAL}){NUMERAL}++)"
_POWER = re.compile(rf"({_OPERAND})的(?:(平方|立方)(?![根米千分厘毫公和差])|(负?(?:\d+|n|{NUMERAL}+))次[方幂])")
_ROOT = re.compile(rf"(?:(立方)根号|(三次)根号|根号下?)\s*({_OPERAND})|({_OPERAND})的(算术)?(平方|立方)根")
_MULTIPLIED = re.compile(r"(?<=[\d)}])\s*乘以\s*(?=[\d(\\])")
_LOG_CALL = re.compile(r"(?<![A-Za-z\\])log_?(\d{1,2})\s*\(")
_OVER = re.compile(r"([^\s分之,，。=]{1,12})分之([^\s分之,，。=]{1,12})")


def _value(words: list[str]) -> Fraction | None:
    """The value of the words of one whole number; `None` where they are not one (two three)."""
    total, part, last = Fraction(0), Fraction(0), 10**15
    previous = 0
    for word in words:
        if word in _SMALL:
            digit = _SMALL[word]
            if previous and (previous < 20 or digit >= 10):
                return None
            part, previous = part + digit, digit
        elif word == "hundred":
            part, previous = (part or Fraction(1)) * 100, 0
        else:
            size = _LARGE[word]
            if size >= last:
                return None
            total, part, last, previous = total + (part or Fraction(1)) * size, Fraction(0), size, 0
    return total + part


def _singular(word: str) -> str:
    return word if word in _SMALL or word in _LARGE or word == "hundred" else word.removesuffix("s")


def _number(match: re.Match[str]) -> str:
    words = [_singular(word) for word in re.split(r"[\s-]+", match[2].lower().strip()) if word and word != "and"]
    value = _value(words)
    if value is None:
        return match[0]
    sign = "-" if match[1] else ""
    part = (match[3] or "").lower()
    if part:
        return f"{sign}({written(value)}/{_PARTS[part]})"
    return sign + written(value)


def english_in_digits(text: str) -> str:
    """A text with its English number words in digits; `one of them`, `a` and `an` alone stay."""
    text = _UNIT_HALF.sub(lambda match: f"{match[1] or 1}.5 {match[2]}", text)
    text = _HALF_UNIT.sub(lambda match: f"{match[1] or 0}.5 ", text)
    text = _NUMBER.sub(_number, text)
    return _HALF.sub(lambda match: "(1/2)" if match[1].lower() == "half" else "(1/4)", text)


def scaled(text: str) -> str:
    """3 million, 2 dozen, 3打, negative 5 as numbers, and 3rd as 3."""
    text = _DOZENS.sub(lambda match: f"{12 * int(match[1])}个", _NEGATIVE.sub("-", text))
    text = _SCALED.sub(
        lambda match: written(Fraction(match[1].replace(",", "")) * {**_LARGE, "hundred": 100}[match[2].lower()]), text
    )
    return _CHINESE_ORDINAL.sub(r"\1", _ORDINAL.sub(r"\1", text))


def _digits(text: str) -> str:
    try:
        return written(chinese_number(text.removeprefix("负"))) if text else text
    except ValueError:
        return text


def _power(match: re.Match[str]) -> str:
    if match[2]:
        return f"{_digits(match[1])}^{2 if match[2] == '平方' else 3}"
    exponent = ("-" if match[3].startswith("负") else "") + _digits(match[3])
    return f"{_digits(match[1])}^{{{exponent}}}"


def _root(match: re.Match[str]) -> str:
    of = _digits(match[3] or match[4]).strip("()")
    cube = match[1] or match[2] or match[6] == "立方"
    if match[6] == "平方" and not match[5]:
        return rf"±\sqrt{{{of}}}"
    return rf"\sqrt[3]{{{of}}}" if cube else rf"\sqrt{{{of}}}"


def formulas(text: str) -> str:
    r"""Chinese words of a formula as signs: 根号2 -> \sqrt{2}, 3的平方 -> 3^2, 2的10次方 -> 2^{10}, 2分之根号3."""
    if "次" in text or "平方" in text or "立方" in text:
        text = _POWER.sub(_power, text)
    if "乘以" in text:
        text = _MULTIPLIED.sub("×", text)
    if "log" in text:
        text = _LOG_CALL.sub(r"\\log_{\1}(", text)
    if "根" in text:
        text = _ROOT.sub(_root, text)
        if "分之" in text:
            text = _OVER.sub(r"((\2)/(\1))", text)
    return text.replace("正负", "±") if "正负" in text else text
