"""What an answer can be: a number, a closed form, a time, a ratio, several of them, unknowns, a region, a formula."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

from .forms import Stated
from .regions import Interval
from .unit_table import Measure
from .units import measures


@dataclass(frozen=True)
class Number:
    stated: Stated


@dataclass(frozen=True)
class Real:
    """A closed form that is no fraction: 2√3, 3π."""

    value: float
    text: str
    unit: str = ""


@dataclass(frozen=True)
class Time:
    """A time of the day in minutes; `sure`: morning or afternoon is known."""

    minutes: int
    sure: bool


@dataclass(frozen=True)
class Date:
    """A date, or what is known of it; a year before Christ is negative, `weekday` 1 is Monday."""

    year: int | None
    month: int | None
    day: int | None
    weekday: int | None = None


@dataclass(frozen=True)
class Remainder:
    """`5……2`."""

    quotient: Fraction
    rest: Fraction


@dataclass(frozen=True)
class Ratio:
    """`3:5`; `time` where it may be a time of the day as well."""

    parts: tuple[Fraction, ...]
    time: Time | None = None


@dataclass(frozen=True)
class Group:
    """Several values: a "tuple" has an order, a "set" and a "list" have none."""

    kind: str
    items: tuple["Value", ...]
    text: str = ""


@dataclass(frozen=True)
class Named:
    """Unknowns with their values."""

    items: tuple[tuple[str, "Value"], ...]
    text: str = ""


@dataclass(frozen=True)
class Region:
    """The numbers between bounds: an interval, an inequality, a union."""

    name: str
    intervals: tuple[Interval, ...]
    text: str = ""


@dataclass(frozen=True)
class Symbol:
    """A formula that needs algebra."""

    text: str = field(hash=False)


@dataclass(frozen=True)
class Words:
    text: str


Value = Number | Real | Time | Date | Remainder | Ratio | Group | Named | Region | Symbol | Words


def unit_sizes(value: Number | Real) -> tuple[Measure, ...]:
    return measures(value.stated.unit if isinstance(value, Number) else value.unit)


def magnitude(value: Number | Real) -> float:
    if isinstance(value, Real):
        return value.value
    try:
        return float(value.stated.value)
    except OverflowError:
        return math.inf
