"""Times of the day and ratios, which share the colon."""

import re
from fractions import Fraction

from .numerals import fractions_in_digits, in_digits
from .values import Ratio, Time

_COLON = re.compile(r"^(\d+(?:\.\d+)?)((?:\s*(?::|：|∶|比)\s*\d+(?:\.\d+)?)+)$")
_INSIDE = re.compile(r"(?<![\d:.])\d+(?:\.\d+)?(?:\s*[:：∶比]\s*\d+(?:\.\d+)?)+(?![\d:])")
_TO = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)(?![\d.]*\d)")
_LESS = r"(?:(\d)\s*刻钟?|(\d{1,2})\s*分钟?)"
_TO_THE_HOUR = re.compile(
    rf"差\s*{_LESS}\s*(?:到|就)?\s*(\d{{1,2}})\s*点钟?|(?<!\d)(\d{{1,2}})\s*点钟?\s*差\s*{_LESS}"
)
_HOURS = "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905
_SPOKEN_TIME = re.compile(
    rf"\b(?:a\s+)?(half|quarter|\d{{1,2}})\s+(past|to)\s+(\d{{1,2}}|{'|'.join(_HOURS[1:])})\b(?!\s*[\d.:])(?:\s*o'clock)?",
    re.IGNORECASE,
)
_PERIOD = r"(?:(上午|早上|早晨|清晨|凌晨|中午|下午|傍晚|晚上)\s*)?"
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
    return text


def read_time(text: str, anywhere: bool = False) -> Time | None:
    """A time of the day: 下午3点30分, 15:30, 3:30 pm, 三点半."""
    text = _in_hours(in_digits(text))
    match = _CLOCK.search(text) if anywhere else _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    period, hour, minute, half, quarter, meridian = match.groups()
    marked = period or meridian or "点" in match[0] or "clock" in match[0] or (anywhere and ":" in match[0])
    minutes = 30 if half else 15 * int(quarter) if quarter else int(minute or 0)
    if not marked or int(hour) > 24 or minutes > 59 or (":" in match[0] and len(minute or "") != 2):
        return None
    hours = int(hour)
    if (period in ("下午", "傍晚", "晚上") or (meridian or "").lower() == "p") and hours < 12:
        hours += 12
    elif (period in ("上午", "早上", "早晨", "清晨", "凌晨") or (meridian or "").lower() == "a") and hours == 12:
        hours = 0
    return Time(hours * 60 + minutes, bool(period or meridian) or hours > 12 or hours == 0)


def find_ratio(text: str) -> Ratio | None:
    """The only ratio of a sentence: 甲与乙的比是3:5, the ratio is 3 to 5."""
    found = {re.sub(r"\s", "", match[0]) for match in _INSIDE.finditer(text)}
    if not found and "ratio" in text:
        found = {f"{match[1]}:{match[2]}" for match in _TO.finditer(text)}
    return read_ratio(found.pop()) if len(found) == 1 else None


def read_ratio(text: str) -> Ratio | None:
    match = _COLON.match(fractions_in_digits(in_digits(text)))
    if match is None:
        return None
    written = re.findall(r"\d+(?:\.\d+)?", match[0])
    time = None
    if len(written) == 2 and re.fullmatch(r"\d{2}", written[1]) and int(written[1]) < 60 and written[0].isdigit():
        hours = int(written[0])
        time = (
            Time(hours * 60 + int(written[1]), hours > 12 or hours == 0)
            if hours <= 24 and "比" not in match[0]
            else None
        )
    return Ratio(tuple(map(Fraction, written)), time)
