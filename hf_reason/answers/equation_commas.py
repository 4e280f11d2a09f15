"""Commas between digits: do they group thousands, or end an equation (360÷3=120,120+30=150)?"""

import re
from fractions import Fraction

from .expressions import evaluate_expression

_WELL_FORMED = re.compile(r"\d{1,3}(?:,\d{3})+|\d+")
# a=120,120+30=150
_ASSIGNED = re.compile(r"(?<=[A-Za-z]=)(\d{1,3}),(?=(\d{3}(?:[-+×÷*/]\d+(?:\.\d+)?){1,6})=(\d+(?:\.\d+)?)(?![\d,]))")
_OPERATORS = tuple("+-×÷*/")


def _value(text: str) -> Fraction | None:
    try:
        return evaluate_expression(text)
    except ValueError:
        return None


def _apart(match: re.Match[str]) -> str:
    value = _value(match[2])
    return f"{match[1]}, " if value is not None and value == _value(match[3]) else match[0]


def assignments_apart(text: str) -> str:
    """A space behind the comma between a value and an equation that holds: a=120,120+30=150."""
    return _ASSIGNED.sub(_apart, text)


def equation_end(text: str, wanted: Fraction | None, following: str, grouped: bool, operated: bool) -> int:
    """Where in a run of digits and commas an equation ends; 0: the run is one number.

    It ends at the comma after the value that is `wanted`; where neither reading has that value, at the only comma of a
    run before an operator, unless the sentence groups thousands elsewhere; and where the run is no number at all,
    before the longest number at its end.

    Args:
        text: The run, such as `1,200,1,200`.
        wanted: The value of the other side; `None` where the run does not follow an equals sign.
        following: The character after the run.
        grouped: Whether other numbers of the sentence are grouped by commas.
        operated: Whether the other side has operations.
    """
    commas = [at for at, char in enumerate(text) if char == ","]
    cuts = [at for at in commas if _WELL_FORMED.fullmatch(text, 0, at)]
    if wanted is not None:
        for at in cuts:
            if _value(text[:at]) == wanted:
                return at
    number = text.partition(".")[0].rstrip("%万亿 ")
    if not _WELL_FORMED.fullmatch(number):
        tails = [at for at in commas if _WELL_FORMED.fullmatch(number[at + 1 :])]
        return next((at for at in tails if at in cuts), tails[0] if tails else commas[-1])
    if wanted is None or grouped or not following.startswith(_OPERATORS) or not operated:
        return 0
    return commas[0] if len(commas) == 1 else 0
