"""Times of the day and ratios, which share the colon."""

import re
from fractions import Fraction

from .numerals import fractions_in_digits, in_digits
from .values import Ratio, Time

_TERM = r"\d+(?:/\d+|\.\d+)?"
_COLON = re.compile(rf"^{_TERM}(?:\s*[:：∶比]\s*{_TERM})+$")
# A fraction in brackets or in LaTeX as a term of a ratio.
_FRACTION = re.compile(r"(?:\\[dt]?frac\s*\{|\()(\d+)(?:\}\s*\{|/)(\d+)[})]")
_NIGHT = ("夜里", "夜晚", "深夜", "夜间", "半夜", "午夜")
_INSIDE = re.compile(r"(?<![\d:.])\d+(?:\.\d+)?(?:\s*[:：∶比]\s*\d+(?:\.\d+)?)+(?![\d:])")
_TO = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)(?![\d.]*\d)")
# 8 a.m.
_BARE_HOUR = re.compile(r"(?<![\d:.])(\d{1,2})(\s?[ap]\.?m\b)", re.IGNORECASE)
_LESS = r"(?:(\d)\s*刻钟?|(\d{1,2})\s*分钟?)"
_TO_THE_HOUR = re.compile(
    rf"差\s*{_LESS}\s*(?:到|就)?\s*(\d{{1,2}})\s*点钟?|(?<!\d)(\d{{1,2}})\s*点钟?\s*差\s*{_LESS}"
)
_HOURS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
_SPOKEN_TIME = re.compile(
    rf"\b(?:a\s+)?(half|quarter|\d{{1,2}})\s+(past|to)\s+(\d{{1,2}}|{'|'.join(_HOURS[1:])})\b(?!\s*[\d.:])(?:\s*o'clock)?",
    re.IGNORECASE,
)
_PERIOD = r"(?:(上午|早上|早晨|清晨|凌晨|中午|下午|傍晚|晚上|夜里|夜晚|深夜|夜间|半夜|午夜)\s*)?"
_CLOCK = re.compile(
    rf"{_PERIOD}(?<![\d:])(\d{{1,2}})\s*(?::|：|点钟?|时|o'clock)\s*(?:(\d{{1,2}})\s*分?|(半)|([13])刻|整)?(?![\d:.])\s*(?i:([ap])\.?m\b\.?)?"
)


def _to_the_hour(match: re.Match[str]) -> str:
    """差5分9点 and 9点差5分 as 8点55分."""
    hour = int(match[3] or match[4])
    minutes = 15 * int(match[1] or match[5] or 0) + int(match[2] or match[6] or 0)
    return f"{hour - 1 or 12}点{60 - minutes}分" if 0 < minutes < 60 and 0 < hour <= 24 else match[0]


def _spoken_time(match: re.Match[str]) -> str:
    """Half past three as 3点30分, a quarter to four as 3点45分."""
    part, past, named = (group.lower() for group in match.groups())
    hour = int(named) if named.isdigit() else _HOURS.index(named)
    minutes = 30 if part == "half" else 15 if part == "quarter" else int(part)
    if not 0 < minutes < 60 or not 0 < hour <= 24:
        return match[0]
    return f"{hour}点{minutes}分" if past == "past" else f"{hour - 1 or 12}点{60 - minutes}分"


def _in_hours(text: str) -> str:
    if "差" in text:
        text = _TO_THE_HOUR.sub(_to_the_hour, text)
    if re.search(r"past|quarter to", text, re.IGNORECASE):
        text = _SPOKEN_TIME.sub(_spoken_time, text)
    return _BARE_HOUR.sub(r"\1点\2", text)


def _hours(hour: int, period: str) -> int:
    """An hour of a part of the day (下午, p; 夜里) out of 24."""
    if period in _NIGHT:
        return hour % 12 + 12 * (6 <= hour < 12)
    if period in ("下午", "傍晚", "晚上", "p") or (period == "中午" and hour < 4):
        return 0 if hour == 12 and period == "晚上" else hour + 12 * (hour < 12)
    return 0 if hour == 12 and period not in ("", "中午") else hour


def read_time(text: str, anywhere: bool = False) -> Time | None:
    """A time of the day: 下午3点30分, 15:30, 3:30 pm, 三点半; `anywhere`: the last one of a sentence."""
    text = _in_hours(in_digits(text))
    found = list(_CLOCK.finditer(text)) if anywhere else []
    match = found[-1] if found else None if anywhere else _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    period, hour, minute, half, quarter, meridian = match.groups()
    period = period or (meridian or "").lower()
    marked = period or "点" in match[0] or "clock" in match[0]
    if anywhere and not marked:
        marked = ":" in match[0] or re.search(r"[在于到]\s*$", text[: match.start()])
    minutes = 30 if half else 15 * int(quarter) if quarter else int(minute or 0)
    if not marked or int(hour) > 24 or minutes > 59 or (":" in match[0] and len(minute or "") != 2):
        return None
    hours = _hours(int(hour), period)
    return Time(hours * 60 + minutes, bool(period) or hours > 12 or hours == 0)


def find_ratio(text: str) -> Ratio | None:
    """The only ratio of a sentence: 甲与乙的比是3:5, the ratio is 3 to 5."""
    found = {re.sub(r"\s", "", match[0]) for match in _INSIDE.finditer(text)}
    if not found and "ratio" in text:
        found = {f"{match[1]}:{match[2]}" for match in _TO.finditer(text)}
    return read_ratio(found.pop()) if len(found) == 1 else None


def _ratio_time(written: list[str]) -> Time | None:
    """The time of the day that a ratio in digits (15:30, 15:30:00) may be as well."""
    if len(written) == 3 and written[2] == "00":
        written = written[:2]
    hour, minute = (*written, "")[:2]
    if len(written) != 2 or not hour.isdigit() or not re.fullmatch(r"[0-5]\d", minute) or int(hour) > 24:
        return None
    return Time(int(hour) * 60 + int(minute), int(hour) > 12 or int(hour) == 0)


def read_ratio(text: str) -> Ratio | None:
    """3:5, 3比5, 1:2:3, 1/2:1/3."""
    match = _COLON.match(_FRACTION.sub(r"\1/\2", fractions_in_digits(in_digits(text))))
    if match is None:
        return None
    written = re.findall(_TERM, match[0])
    if any(re.search(r"/0+$", term) for term in written):
        return None
    return Ratio(tuple(map(Fraction, written)), None if "比" in match[0] else _ratio_time(written))
