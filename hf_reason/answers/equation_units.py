"""Equations whose sides are in different units of one kind: 5元+3角=5.3元, 60千米/时×1.5小时=90千米."""

from dataclasses import dataclass
from fractions import Fraction

from .equation_scan import Segment
from .expressions import evaluate_expression
from .unit_table import Dimension, Measure
from .units import measures


@dataclass(frozen=True)
class Converted:
    """The sides of an equation with every unit converted.

    Attributes:
        value: The value of the expression, in the unit of the result where that has one.
        holds: Whether the sides are equal.
        sure: Every number has a known unit, so that unequal sides prove the equation false.
        sums: There are only sums, so that the bare numbers say nothing (5元+3角 is not 8元).
    """

    value: Fraction
    holds: bool
    sure: bool
    sums: bool


def _chosen(name: str, dimensions: set[Dimension]) -> Measure | None:
    """What a unit measures, given what the others do: 分 beside 小时 is a time."""
    found = measures(name)
    return next((measure for measure in found if measure[0] in dimensions), found[0] if found else None)


def _mixed(chosen: dict[str, Measure]) -> bool:
    """Whether two units measure the same in different sizes."""
    sizes: dict[Dimension, set[Fraction]] = {}
    for dimension, size in chosen.values():
        sizes.setdefault(dimension, set()).add(size)
    bases = [{base for base, _ in dimension} for dimension in sizes]
    return any(len(found) > 1 for found in sizes.values()) or any(
        one & other for at, one in enumerate(bases) for other in bases[:at]
    )


def _scaled(side: Segment, chosen: dict[str, Measure]) -> Fraction | None:
    parts = list(side.parts)
    for at, name in side.named.items():
        if name in chosen:
            parts[at] = f"({parts[at]}*({chosen[name][1]}))"
    try:
        return evaluate_expression("".join(parts))
    except ValueError:
        return None


def convert(expression: Segment, result: Segment) -> Converted | None:
    """Check an equation in its units; `None` where its units are all of one size, or unknown."""
    names = {*expression.named.values(), *result.named.values()}
    single = {measures(name)[0][0] for name in names if len(measures(name)) == 1}
    chosen = {name: measure for name in names if (measure := _chosen(name, single))}
    if len(chosen) < 2 or not _mixed(chosen):
        return None
    left, right = _scaled(expression, chosen), _scaled(result, chosen)
    if left is None or right is None:
        return None
    counted = sum(name in chosen for side in (expression, result) for name in side.named.values())
    only_sums = not any(sign in expression.text + result.text for sign in "×÷*/^·")
    sure = counted == expression.numbers + result.numbers
    unit = chosen.get(next(iter(result.named.values()), ""))
    return Converted(left / unit[1] if unit else left, left == right, sure, only_sums)
