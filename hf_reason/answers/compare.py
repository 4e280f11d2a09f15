"""Compare two values that were read, each type by its own rule; what has no rule is `None`."""

import re
from fractions import Fraction

from .forms import Stated
from .regions import Interval
from .symbolic import as_latex, close, verify_symbolic
from .units import measures
from .values import Group, Named, Number, Ratio, Real, Region, Symbol, Time, Value, Words, magnitude, unit_sizes

_PI = re.compile(r"π|pi")
_SURE_DIGITS = 4
_MAX_PAIRS = 8


def _repeats(value: Fraction) -> bool:
    """Whether the decimals of `value` never end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest != 1


def same_number(answer: Stated, reference: Stated) -> bool:
    """Whether two numbers are the same, in their units and as percentages; 0.33 stands for 1/3."""
    left, right = answer.value, reference.value
    ours, theirs = measures(answer.unit), measures(reference.unit)
    if ours and theirs:
        pairs = [(one, other) for name, one in ours for found, other in theirs if name == found]
        return any(left * one == right * other for one, other in pairs)
    if left == right:
        return True
    # 1小时30分钟 against 90, where the question asks for minutes.
    if (answer.smallest == right and not theirs) or (reference.smallest == left and not ours):
        return True
    # "30%" against "30" in a question that asks for percent.
    if answer.percent != reference.percent:
        numeral, other = (left * 100, right) if answer.percent else (right * 100, left)
        return numeral == other and abs(other) >= 1
    # 0.33 for 1/3: two digits or more, and one side does not end.
    for short, exact in ((answer, reference), (reference, answer)):
        digits = short.decimals
        if digits is not None and digits >= 2 and _repeats(exact.value):
            unit = Fraction(1, 10**digits) / (100 if short.percent else 1)
            return abs(short.value - exact.value) <= unit / 2
    return False


def _same_real(answer: Number | Real, reference: Number | Real) -> bool | None:
    """A closed form against a number or another one. A short decimal may be its rounded value: undecided."""
    ours, theirs = unit_sizes(answer), unit_sizes(reference)
    left, right = magnitude(answer), magnitude(reference)
    if ours and theirs:
        shared = [(one, other) for name, one in ours for found, other in theirs if name == found]
        if not shared:
            return False
        if shared[0][0] != shared[0][1]:
            return close(left * float(shared[0][0]), right * float(shared[0][1]))
    if close(left, right):
        return True
    for short, exact in ((answer, reference), (reference, answer)):
        if not isinstance(short, Number) or not isinstance(exact, Real):
            continue
        digits = short.stated.decimals
        if digits is not None and digits >= 1 and abs(magnitude(short) - exact.value) <= 0.5 * 10.0**-digits * 1.0001:
            return True if digits >= _SURE_DIGITS else None
        if _PI.search(exact.text) and close(magnitude(short), exact.value / 3.141592653589793 * 3.14, 1e-6):
            return None
    return False


def _same_scalar(answer: Number | Real, reference: Number | Real) -> bool | None:
    if isinstance(answer, Number) and isinstance(reference, Number):
        return same_number(answer.stated, reference.stated)
    return _same_real(answer, reference)


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
    # 6:10 and 12:20 are equal ratios and different times.
    return (None if equal else False) if answer.time and reference.time else equal


def _same_bound(one: Fraction | float, other: Fraction | float) -> bool:
    if one == other or (one not in (float("inf"), float("-inf")) and close(one, other)):
        return True
    for short, exact in ((one, other), (other, one)):
        if isinstance(short, Fraction) and isinstance(exact, Fraction) and _repeats(exact) and not _repeats(short):
            digits = next((places for places in range(1, 10) if (short * 10**places).denominator == 1), 0)
            return digits >= 2 and abs(short - exact) <= Fraction(1, 2 * 10**digits)
    return False


def _same_region(answer: Region, reference: Region) -> bool:
    if answer.name and reference.name and answer.name != reference.name:
        return False
    return len(answer.intervals) == len(reference.intervals) and all(
        one.low_in == other.low_in
        and one.high_in == other.high_in
        and _same_bound(one.low, other.low)
        and _same_bound(one.high, other.high)
        for one, other in zip(answer.intervals, reference.intervals, strict=True)
    )


def _opened(value: Group) -> Region | None:
    """A pair in round brackets as an open interval."""
    ends = [
        item.stated.value if isinstance(item, Number) else item.value
        for item in value.items
        if isinstance(item, Number | Real)
    ]
    if value.kind != "tuple" or len(ends) != 2 or len(value.items) != 2 or not ends[0] < ends[1]:
        return None
    return Region("", (Interval(ends[0], False, ends[1], False),))


def _ordered(answer: tuple[Value, ...], reference: tuple[Value, ...]) -> bool | None:
    if len(answer) != len(reference):
        return False
    verdicts = [same(one, other) for one, other in zip(answer, reference, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _unordered(answer: tuple[Value, ...], reference: tuple[Value, ...]) -> bool | None:
    """Whether the values pair off, in whatever order."""
    left, undecided = list(answer), False
    if len(left) != len(reference):
        # one value written twice, as a set
        left = _distinct(left)
        reference = tuple(_distinct(list(reference)))
    if len(left) != len(reference):
        return False
    for wanted in reference:
        verdicts = [same(value, wanted) for value in left]
        if True not in verdicts:
            undecided |= None in verdicts
            if not undecided:
                return False
            continue
        left.pop(verdicts.index(True))
    return None if undecided else True


def _distinct(values: list[Value]) -> list[Value]:
    found: list[Value] = []
    for value in values:
        if not any(same(value, other) for other in found[:_MAX_PAIRS]):
            found.append(value)
    return found


def _same_named(answer: Named, reference: Named) -> bool | None:
    ours, theirs = dict(answer.items), dict(reference.items)
    if len(ours) == len(theirs) == 1:
        (name, value), (other, wanted) = answer.items[0], reference.items[0]
        return False if name != other and name.isascii() and other.isascii() else same(value, wanted)
    if set(ours) != set(theirs):
        return _ordered(tuple(ours.values()), tuple(theirs.values())) and None
    verdicts = [same(ours[name], theirs[name]) for name in theirs]
    return False if False in verdicts else None if None in verdicts else True


def _same_groups(answer: Value, reference: Value) -> bool | None:
    """At least one side has several values."""
    if isinstance(answer, Named) and isinstance(reference, Named):
        return _same_named(answer, reference)
    if isinstance(answer, Group) and isinstance(reference, Group):
        kinds = {answer.kind, reference.kind}
        if len(kinds) > 1 and any(kind.startswith("matrix") for kind in kinds):
            return False
        if kinds == {"tuple"} or any(kind.startswith("matrix") for kind in kinds):
            return _ordered(answer.items, reference.items)
        if "tuple" in kinds:
            if _ordered(answer.items, reference.items):
                return True
            return None if _unordered(answer.items, reference.items) else False
        return _unordered(answer.items, reference.items)
    ours = answer.items if isinstance(answer, Group) else None
    theirs = reference.items if isinstance(reference, Group) else None
    if isinstance(answer, Named):
        ours = tuple(value for _, value in answer.items)
    if isinstance(reference, Named):
        theirs = tuple(value for _, value in reference.items)
    if ours is not None and theirs is not None:
        if len(ours) == 1 and len(theirs) == 1:
            return same(ours[0], theirs[0])
        # names on one side alone: the order must be theirs, and another order proves nothing
        return True if _ordered(ours, theirs) else None if _unordered(ours, theirs) else False
    many, one = (ours, reference) if ours is not None else (theirs or (), answer)
    verdicts = [same(value, one) if ours is not None else same(one, value) for value in many]
    return True if verdicts and all(verdicts) else None if len(many) == 1 and None in verdicts else False


def _formula(value: Value) -> str:
    if isinstance(value, Symbol | Group | Named | Region):
        return as_latex(value.text) if "\\begin" not in value.text else value.text
    if isinstance(value, Real):
        return as_latex(value.text)
    if isinstance(value, Number):
        return str(value.stated.value)
    return ""


def same(answer: Value, reference: Value) -> bool | None:
    """Whether two values are equal; `None` where that cannot be decided."""
    if isinstance(answer, Words) or isinstance(reference, Words):
        return None
    if isinstance(answer, Number | Real) and isinstance(reference, Number | Real):
        return _same_scalar(answer, reference)
    if isinstance(answer, Symbol) or isinstance(reference, Symbol):
        left, right = _formula(answer), _formula(reference)
        return verify_symbolic(left, right) if left and right else None
    for one, other, kind in ((answer, reference, 0), (reference, answer, 1)):
        if isinstance(one, Region):
            opened = _opened(other) if isinstance(other, Group) else other if isinstance(other, Region) else None
            return False if opened is None else _same_region(one, opened)
        if isinstance(one, Time) and isinstance(other, Number):
            return (one.minutes * 60000 == other.stated.value * size[0][1]) if (size := unit_sizes(other)) else False
        if isinstance(one, Time) and isinstance(other, Ratio):
            return other.time is not None and _same_time(one, other.time)
        if isinstance(one, Ratio) and isinstance(other, Number | Real) and kind >= 0:
            size = unit_sizes(other)
            if one.time and size and size[0][0] == "time" and isinstance(other, Number):
                return one.time.minutes * 60000 == other.stated.value * size[0][1]
            value = one.parts[0] / one.parts[1] if len(one.parts) == 2 and one.parts[1] else None
            return None if value is not None and close(value, magnitude(other)) else False
    if isinstance(answer, Time) and isinstance(reference, Time):
        return _same_time(answer, reference)
    if isinstance(answer, Ratio) and isinstance(reference, Ratio):
        return _same_ratio(answer, reference)
    if isinstance(answer, Group | Named) or isinstance(reference, Group | Named):
        return _same_groups(answer, reference)
    return False
