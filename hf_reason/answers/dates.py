"""Dates, days of the week and years before Christ, in Chinese and English writing."""

import re

from .numerals import chinese_number
from .values import Date

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = {
    **{f"{word}{digit}": at for word in ("星期", "周", "礼拜") for at, digit in enumerate("一二三四五六日", 1)},
    **{f"{word}天": 7 for word in ("星期", "礼拜")},
    **{
        name: at
        for at, name in enumerate("monday tuesday wednesday thursday friday saturday sunday".split(), 1)  # noqa: SIM905
    },
}
_NUMBER = r"(\d{1,4}|[〇零一二三四五六七八九十廿卅]{1,4})"
_ERA = r"(?:(公元前|西元前|前|公元|西元)\s*)?"
_CHINESE = re.compile(rf"{_ERA}(?:{_NUMBER}\s*年)?\s*(?:{_NUMBER}\s*月)?\s*(?:{_NUMBER}\s*[日号])?(?![\d间])")
_ISO = re.compile(r"(?<![\d/.-])([12]\d{3})([-/.])(\d{1,2})(?:\2(\d{1,2}))?(?![\d/-]|\.\d)")
_MONTH = rf"({'|'.join(name[:3] + f'(?:{name[3:]})?' if len(name) > 3 else name for name in _MONTHS)})\.?"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_ENGLISH = re.compile(rf"\b{_MONTH}\s+{_DAY}\b(?:\s*,?\s*([12]\d{{3}}))?", re.IGNORECASE)
_BRITISH = re.compile(rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:\s*,?\s*([12]\d{{3}}))?(?![A-Za-z])", re.IGNORECASE)
_WEEKDAY = re.compile("|".join(sorted(_DAYS, key=len, reverse=True)), re.IGNORECASE)
_BEFORE_CHRIST = re.compile(r"(\d{1,4})\s*(?:BCE?|B\.C\.(?:E\.)?)", re.IGNORECASE)


def _value(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text) if text.isdigit() else int(chinese_number(text))
    except ValueError:
        return None


def _valid(year: int | None, month: int | None, day: int | None) -> Date | None:
    if month is None and day is not None:
        return None
    if month is not None and not 1 <= month <= 12 or day is not None and not 1 <= day <= 31:
        return None
    return Date(year, month, day)


def _chinese(match: re.Match[str]) -> Date | None:
    era, year_text, month, day = match.groups()
    year = _value(year_text)
    before = bool(era) and era.endswith("前")
    # A year alone is a number with the unit 年; 3月 alone a number of months.
    if not match[0].strip() or (month is None and not before) or (year is None and day is None):
        return None
    return _valid(-year if before and year is not None else year, _value(month), _value(day))


def _month(name: str) -> int:
    return next(at for at, month in enumerate(_MONTHS, 1) if month.startswith(name[:3].lower()))


def _found(pattern: re.Pattern[str], text: str, anywhere: bool) -> re.Match[str] | None:
    if not anywhere:
        return pattern.fullmatch(text)
    matches = [match for match in pattern.finditer(text) if match[0].strip()]
    return matches[-1] if matches else None


def read_date(text: str, anywhere: bool = False) -> Date | None:
    """A date (2024年3月5日, 2024-03-05, March 5, 2024), a day of the week, or a year before Christ.

    Args:
        text: What may be a date.
        anywhere: Take the last one of a sentence; otherwise the text is nothing else.
    """
    text = text.strip().rstrip("。.,， ")
    if len(text) > 2000:
        return None
    match = _found(_CHINESE, text, anywhere)
    date = _chinese(match) if match else None
    if date:
        return date
    match = _found(_ISO, text, anywhere)
    if match and (match[4] or match[2] == "-"):
        return _valid(int(match[1]), int(match[3]), _value(match[4]))
    match = _found(_ENGLISH, text, anywhere)
    if match:
        return _valid(_value(match[3]), _month(match[1]), int(match[2]))
    match = _found(_BRITISH, text, anywhere)
    if match:
        return _valid(_value(match[3]), _month(match[2]), int(match[1]))
    match = _found(_BEFORE_CHRIST, text, anywhere)
    if match:
        return Date(-int(match[1]), None, None)
    match = _found(_WEEKDAY, text, anywhere)
    return Date(None, None, None, _DAYS[match[0].lower()]) if match else None
