"""Compare two values that were read, each type by its own rule; what has no rule is `None`."""

import re
from fractions import Fraction

from .compare_kinds import KINDS, same_kind
from .compare_numbers import repeats, same_number, same_scalar
from .regions import Interval, meet
from .symbolic import as_latex, close, verify_symbolic
from .values import Group, Named, Number, Real, Region, Symbol, Value, Words

__all__ = ["same", "same_number"]

# y=... against the right side alone
_NAME = re.compile(r"^[A-Za-z](?:\([a-z]\))?=(?=[^=]*$)")
_MAX_PAIRS = 8


def _same_bound(one: Fraction | float, other: Fraction | float) -> bool:
    if one == other or (one not in (float("inf"), float("-inf")) and close(one, other)):
        return True
    for short, exact in ((one, other), (other, one)):
        if isinstance(short, Fraction) and isinstance(exact, Fraction) and repeats(exact) and not repeats(short):
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


def _both(value: Group) -> Region:
    """Inequalities in a row (k<1, k≠0): what fulfils all of them; where nothing does, any of them (x<-1, x>2)."""
    regions = [item for item in value.items if isinstance(item, Region)]
    names = {region.name for region in regions if region.name}
    met = list(regions[0].intervals)
    for region in regions[1:]:
        met = meet(met, list(region.intervals))
    found = met or [interval for region in regions for interval in region.intervals]
    name = "" if not names else names.pop() if len(names) == 1 else ";"
    return Region(name, tuple(sorted(found, key=lambda interval: (interval.low, interval.high))))


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
        return same_scalar(answer, reference)
    if isinstance(answer, Symbol) or isinstance(reference, Symbol):
        left, right = _formula(answer), _formula(reference)
        if left and _NAME.sub("", "".join(left.split())) == _NAME.sub("", "".join(right.split())):
            return True
        return verify_symbolic(left, right) if left and right else None
    for one, other in ((answer, reference), (reference, answer)):
        if isinstance(one, Region):
            if (
                isinstance(other, Group)
                and other.kind != "tuple"
                and all(isinstance(item, Region) for item in other.items)
            ):
                return _same_region(one, _both(other)) or None
            opened = _opened(other) if isinstance(other, Group) else other if isinstance(other, Region) else None
            return False if opened is None else _same_region(one, opened)
    if isinstance(answer, KINDS) or isinstance(reference, KINDS):
        for one, other in ((answer, reference), (reference, answer)):
            if isinstance(one, Named) and len(one.items) == 1:
                value = one.items[0][1]
                return same(value, other) if one is answer else same(other, value)
        return same_kind(answer, reference)
    return _same_groups(answer, reference)
