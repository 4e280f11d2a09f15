"""Times of the day and ratios, which share the colon."""

import re
from fractions import Fraction

from .numerals import fractions_in_digits, in_digits
from .values import Ratio, Time

_COLON = re.compile(r"^(\d+(?:\.\d+)?)((?:\s*(?::|：|∶|比)\s*\d+(?:\.\d+)?)+)$")
_PERIOD = r"(?:(上午|早上|早晨|清晨|凌晨|中午|下午|傍晚|晚上)\s*)?"
_CLOCK = re.compile(
    rf"{_PERIOD}(?<![\d:])(\d{{1,2}})\s*(?::|：|点钟?|时|o'clock)\s*(?:(\d{{1,2}})\s*分?|(半)|([13])刻|整)?(?![\d:.])\s*(?i:([ap])\.?m\b\.?)?"
)


def read_time(text: str, anywhere: bool = False) -> Time | None:
    """A time of the day: 下午3点30分, 15:30, 3:30 pm, 三点半."""
    text = in_digits(text)
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
