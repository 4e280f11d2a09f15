"""Compare what is no plain number: times of the day, dates, ratios, quotients with a remainder."""

from .symbolic import close
from .values import Date, Group, Number, Ratio, Real, Remainder, Time, Value, magnitude, unit_sizes

KINDS = Time | Date | Ratio | Remainder
_HOURS = (("time", 1),)


def _same_time(answer: Time, reference: Time) -> bool:
    if answer.sure == reference.sure:
        return answer.minutes == reference.minutes
    return (answer.minutes - reference.minutes) % 720 == 0


def _same_ratio(answer: Ratio, reference: Ratio) -> bool | None:
    if answer.parts == reference.parts:
        return True
    known = all(answer.parts) and all(reference.parts)
    equal = (
        known
        and len(answer.parts) == len(reference.parts)
        and all(
            one * reference.parts[0] == other * answer.parts[0]
            for one, other in zip(answer.parts, reference.parts, strict=True)
        )
    )
    if answer.time and reference.time and len(answer.parts) != len(reference.parts):
        return _same_time(answer.time, reference.time)
    # 6:10 and 12:20 are equal ratios and different times.
    return (None if equal else False) if answer.time and reference.time else equal


def _same_date(answer: Date, reference: Date) -> bool | None:
    """Parts that one side leaves out prove nothing."""
    pairs = [
        (answer.year, reference.year),
        (answer.month, reference.month),
        (answer.day, reference.day),
        (answer.weekday, reference.weekday),
    ]
    if any(one != other for one, other in pairs if one is not None and other is not None):
        return False
    return True if all((one is None) == (other is None) for one, other in pairs) else None


def _date_or_other(date: Date, other: Value) -> bool | None:
    if date.year is not None and date.month is None and isinstance(other, Number | Real):
        # 公元前221年 is not the year 221; "how many years before Christ" may be answered by 221
        return None if abs(magnitude(other)) == abs(date.year) and not unit_sizes(other) else False
    if date.year and date.month and date.day is None and isinstance(other, Number | Real):
        # 1857-1 may be the difference
        return None if magnitude(other) == date.year - date.month else False
    return False


def _remainder_or_other(value: Remainder, other: Value) -> bool | None:
    if isinstance(other, Group) and other.kind != "set" and len(other.items) == 2:
        parts = [magnitude(item) for item in other.items if isinstance(item, Number)]
        return parts == [float(value.quotient), float(value.rest)] or (None if other.kind == "list" else False)
    if isinstance(other, Number):
        # The question may ask for one of the two.
        return None if magnitude(other) in (float(value.quotient), float(value.rest)) else False
    return False


def _time_or_other(time: Time, other: Value) -> bool | None:
    if isinstance(other, Ratio):
        return other.time is not None and _same_time(time, other.time)
    if not isinstance(other, Number) or not other.stated.unit.startswith("时"):
        return False
    return time.minutes * 60 == other.stated.value * unit_sizes(other)[0][1]


def _ratio_or_other(ratio: Ratio, other: Value) -> bool | None:
    if not isinstance(other, Number | Real):
        return False
    size = dict(unit_sizes(other)).get(_HOURS)
    if ratio.time and size and isinstance(other, Number):
        return ratio.time.minutes * 60 == other.stated.value * size
    value = ratio.parts[0] / ratio.parts[1] if len(ratio.parts) == 2 and ratio.parts[1] else None
    return None if value is not None and close(value, magnitude(other)) else False


def same_kind(answer: Value, reference: Value) -> bool | None:
    """Compare two values of which at least one is a time, a date, a ratio or a quotient with a remainder."""
    if isinstance(answer, Time) and isinstance(reference, Time):
        return _same_time(answer, reference)
    if isinstance(answer, Ratio) and isinstance(reference, Ratio):
        return _same_ratio(answer, reference)
    if isinstance(answer, Date) and isinstance(reference, Date):
        return _same_date(answer, reference)
    if isinstance(answer, Remainder) and isinstance(reference, Remainder):
        return answer == reference
    for one, other in ((answer, reference), (reference, answer)):
        if isinstance(one, Time):
            return _time_or_other(one, other)
    for one, other in ((answer, reference), (reference, answer)):
        if isinstance(one, Date):
            return _date_or_other(one, other)
        if isinstance(one, Remainder):
            return _remainder_or_other(one, other)
        if isinstance(one, Ratio):
            return _ratio_or_other(one, other)
    return False
