"""Compare numbers and closed forms: exactly, in their units, with the tolerance that the writing allows."""

import re
from fractions import Fraction
from math import pi

from .forms import Stated
from .symbolic import close
from .units import measures
from .values import Number, Real, magnitude, unit_sizes

_PI = re.compile(r"π|pi")
_SURE_DIGITS = 4


def repeats(value: Fraction) -> bool:
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
    if answer.percent != reference.percent and not (answer.unit or reference.unit):
        numeral, other = (left * 100, right) if answer.percent else (right * 100, left)
        if numeral == other and abs(other) >= 1:
            return True
    # 0.33 for 1/3: two digits or more, and one side does not end.
    for short, exact in ((answer, reference), (reference, answer)):
        digits = (short.decimals or 0) + 2 if short.percent else short.decimals
        if digits is not None and digits >= 2 and repeats(exact.value):
            return abs(short.value - exact.value) <= Fraction(1, 2 * 10**digits)
    return False


def _same_angle(radians: Number | Real, degrees: Number | Real) -> bool:
    """π/3 without a unit is an angle where the other side says 度."""
    angle = dict(unit_sizes(degrees)).get((("degrees", 1),))
    if angle is None or not isinstance(radians, Real) or radians.unit or not _PI.search(radians.text):
        return False
    return close(magnitude(radians), magnitude(degrees) * float(angle) * pi / 180)


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
    if close(left, right) or _same_angle(answer, reference) or _same_angle(reference, answer):
        return True
    for short, exact in ((answer, reference), (reference, answer)):
        if not isinstance(short, Number) or not isinstance(exact, Real):
            continue
        digits = short.stated.decimals
        if digits is not None and digits >= 1 and abs(magnitude(short) - exact.value) <= 0.5 * 10.0**-digits * 1.0001:
            return True if digits >= _SURE_DIGITS else None
        if _PI.search(exact.text) and close(magnitude(short), exact.value / pi * 3.14, 1e-6):
            return None
    return False


def same_scalar(answer: Number | Real, reference: Number | Real) -> bool | None:
    if isinstance(answer, Number) and isinstance(reference, Number):
        return same_number(answer.stated, reference.stated)
    return _same_real(answer, reference)
