"""Equations in prose: find those that a step states and check them, and turn a formula into verified steps."""

import re
from dataclasses import dataclass
from fractions import Fraction

from .equation_scan import Segment, scan_chains
from .equation_units import convert
from .expressions import (
    Node,
    Number,
    Operation,
    compute,
    evaluate,
    evaluate_expression,
    format_number,
    parse_expression,
)
from .forms import pure_number

__all__ = ["Equation", "evaluate_expression", "find_equations", "format_number", "steps_from_equation", "write_like"]

_REMAINDER = re.compile(r"^(.+?)…(.+)$")
_MIXED = re.compile(r"\d\(\d+/\d+\)")
_RESULT = re.compile(r"^[-+]?[\d,]*?(\d[\d,]*)(?:\.(\d+))?([万亿])?(%)?$")
_SYMBOL = re.compile(r"^\s*[A-Za-z\u03b1-\u03c9\u4e00-\u9fff]\w{0,20}\s*$")
_WRITTEN = re.compile(r"-?(?:\d+(?:\.\d+)?%?|\d+/\d+|\d+\(\d+/\d+\))$")
_SIGNS = {"*": "×", "/": "÷"}
_SCALES = {"万": 10**4, "亿": 10**8}


@dataclass(frozen=True)
class Equation:
    """An equation that a text states.

    Attributes:
        expression: The side with the operations, units removed.
        result: The other side: a number, `q……r` for a division with remainder, or an expression.
        value: The exact value of `expression`.
        holds: Whether the two sides agree (see `find_equations` for rounding).
    """

    expression: str
    result: str
    value: Fraction
    holds: bool


def _readings(text: str) -> list[Fraction]:
    """The values an expression can mean: 24÷6/2 is read with and without 6/2 as one number."""
    values: list[Fraction] = []
    for fraction_binds in (True, False) if "÷" in text else (True,):
        for mixed in (True, False) if _MIXED.search(text) else (True,):
            try:
                value = evaluate(parse_expression(text, fraction_binds=fraction_binds, mixed=mixed))
            except ValueError:
                continue
            if value not in values:
                values.append(value)
    return values


def _rounds_to(value: Fraction, expression: Segment, result: Segment, approximate: bool) -> bool:
    """Whether the result is `value` rounded (half a unit of the last digit that is written) or cut."""
    match = _RESULT.match(result.text)
    if match is None:
        return False
    # "90÷300×100=30%" says percent of a number that was already made one.
    if match[4] and "%" not in expression.text and value == evaluate_expression(result.text[:-1]):
        return True
    divided = "÷" in expression.text or "/" in expression.text
    if not (approximate or (divided and match[2])):
        return False
    whole, decimals, scale, percent = match.groups()
    unit = Fraction(1, 10 ** len(decimals)) if decimals else Fraction(1)
    if not decimals:
        digits = whole.replace(",", "")
        # "298≈300": zeros at the end of an approximation may replace digits that were dropped.
        unit = Fraction(10 ** (len(digits) - len(digits.rstrip("0"))))
    unit = unit * _SCALES.get(scale or "", 1) / (100 if percent else 1)
    return abs(value - evaluate_expression(result.text)) <= (unit if result.cut else unit / 2)


def _remainder_holds(expression: str, result: str) -> bool:
    """Whether `a÷b=q……r` holds: a = qb + r with 0 <= r < b."""
    match = _REMAINDER.match(result)
    tree = parse_expression(expression)
    if match is None or not isinstance(tree, Operation) or tree.op != "/":
        return False
    dividend, divisor = evaluate(tree.left), evaluate(tree.right)
    quotient, rest = evaluate_expression(match[1]), evaluate_expression(match[2])
    return dividend == quotient * divisor + rest and 0 <= rest < abs(divisor)


def _judge(left: Segment, right: Segment, approximate: bool) -> Equation | None:
    """The equation `left = right`, or `None` if it states nothing that can be checked."""
    if left.bad or right.bad or "…" in left.text:
        return None
    expression, result = left, right
    if not left.operations:
        if not right.operations or "…" in right.text:
            return None
        expression, result = right, left
    values = _readings(expression.text)
    if not values:
        return None
    if "…" in result.text:
        try:
            holds = _remainder_holds(expression.text, result.text)
        except ValueError:
            return None
        return Equation(expression.text, result.text.replace("…", "……"), values[0], holds)
    targets = _readings(result.text)
    if not targets:
        return None
    converted = convert(expression, result)
    if converted is not None and (converted.holds or (converted.sure and converted.sums)):
        return Equation(expression.text, result.text, converted.value, converted.holds)
    for value in values:
        if value in targets or (not result.operations and _rounds_to(value, expression, result, approximate)):
            return Equation(expression.text, result.text, value, True)
    # "in all 4 subjects = 186+62": the number on the left may be no more than the end of a phrase. And
    # "0.5千克=0.5×1000=500克" converts the unit of a number; it does not claim 0.5 = 500.
    phrase = result is left and bool(left.units)
    if phrase or left.soft or right.soft or (converted is not None and not converted.sure):
        return None
    return Equation(expression.text, result.text, values[0], False)


def find_equations(text: str) -> list[Equation]:
    """Find the arithmetic equations that a text states, in order, each with its verdict.

    Numbers may carry units (Chinese, English, bracketed) and currency signs; LaTeX and full-width forms
    are understood; a chain `a=b=c` gives one equation a sign. Sides with unknowns, functions or
    words in them are skipped, and so are unit conversions (`1米=100厘米`), since neither can be checked by
    arithmetic alone.

    An equation holds when its sides are equal as fractions. A result with a decimal point may be the
    rounded value of a division; after ≈ any result may be rounded, to the digits that are written;
    `17÷5=3……2` is checked as a division with remainder.
    """
    found: list[Equation] = []
    for chain, signs in scan_chains(text):
        for left, right, sign in zip(chain, chain[1:], signs, strict=False):
            equation = _judge(left, right, sign == "≈")
            if equation is not None:
                found.append(equation)
    return found


def _has_point(number: Number) -> bool:
    return number.style == "decimal" and "." in format_number(number.value)


def _result_style(op: str, left: Number, right: Number, prefer: str) -> str:
    styles = {left.style, right.style}
    # "0.8×100%=80%" is how a fraction becomes a percentage.
    if op == "*" and right == Number(Fraction(1), "percent"):
        return "percent"
    if "percent" in styles and "fraction" not in styles and op in "+-":
        return "percent"
    # Among decimals a fraction becomes one; among fractions everything else stays as it was given.
    if prefer == "decimal" or _has_point(left) or _has_point(right):
        return "decimal"
    return "fraction" if prefer == "fraction" or "fraction" in styles else "decimal"


def _operand(number: Number, after: str = "") -> str:
    """A number as written `after` an operator: in brackets if it would read differently without them."""
    text = format_number(number.value, number.style)
    return f"({text})" if after and (number.value < 0 or (after == "/" and "/" in text)) else text


def _collect(node: Node, steps: list[str], prefer: str) -> Number:
    """Do the operations of a tree in the order a person would; append one step each."""
    if isinstance(node, Number):
        return node
    left = _collect(node.left, steps, prefer)
    right = _collect(node.right, steps, prefer)
    value = compute(node.op, left.value, right.value)
    result = Number(value, _result_style(node.op, left, right, prefer))
    if result.style == "percent" and (value * 10**8).denominator != 1:
        result = Number(value)
    if node.op == "^" and right.value == 2:
        expression = f"{_operand(left)}×{_operand(left, '*')}"
    elif node.op == "^":
        base, exponent = _operand(left, "^"), _operand(right, "^")
        expression = f"({base})^{exponent}" if "/" in base or "%" in base else f"{base}^{exponent}"
    else:
        expression = f"{_operand(left)}{_SIGNS.get(node.op, node.op)}{_operand(right, node.op)}"
    if evaluate_expression(expression) != value:
        raise ValueError(f"Step {expression} reads as {evaluate_expression(expression)}, not as {value}.")
    steps.append(f"{expression}={_operand(result)}")
    return result


def write_like(value: Fraction, source: str) -> str | None:
    """`value` as the source writes it: `(11/20)` -> 11/20, `((8)/(5))` -> 8/5, `7个` -> 7; 15% and 3.5 stay.

    `None` if the text does not state exactly this value by one plain number.
    """
    stated = pure_number(source)
    if stated is None or stated.value != value:
        return None
    text = re.sub(r"[\s,+]", "", stated.written)
    while text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text if _WRITTEN.match(text) and evaluate_expression(text) == value else None


def steps_from_equation(equation: str, unit: str = "", answer: str = "") -> tuple[list[str], Fraction]:
    """Work a formula out, one operation a step: innermost first, then from left to right.

    `x=280/(1/4)*(3/4)` gives `["280÷(1/4)=1120", "1120×3/4=840"]` and 840. Values are exact: decimals
    stay decimals while they end within 6 digits, and make decimals of the fractions they meet; fractions
    `(p/q)` among themselves and whole numbers stay fractions. A formula that is a single number has no steps.

    Args:
        equation: `x=...`, `...=x` or the expression alone.
        unit: Written in brackets after the last result: `1120×3/4=840（袋）`.
        answer: The answer as the source writes it. If it has a decimal point or is a fraction, results are written
            as decimals or as fractions where they can be; the last result is written as the answer is
            (see `write_like`), if that is its value.

    Raises:
        ValueError: the expression cannot be worked out (see `evaluate_expression`), or both sides of the
            equals sign are expressions.
    """
    sides = equation.replace("＝", "=").split("=")
    if len(sides) == 2 and any(map(_SYMBOL.match, sides)):
        sides = [side for side in sides if not _SYMBOL.match(side)]
    if len(sides) != 1:
        raise ValueError(f"{equation[:80]!r} is not of the form x = arithmetic.")
    tree = parse_expression(sides[0])
    value = evaluate(tree)
    steps: list[str] = []
    written = write_like(value, answer) if answer else None
    _collect(tree, steps, "decimal" if "." in answer else "fraction" if "/" in answer else "")
    if steps and written:
        steps[-1] = f"{steps[-1].rpartition('=')[0]}={written}"
    if steps and unit:
        steps[-1] += f"（{unit}）"
    return steps, value
