"""Closed forms that are plain numbers: factorials, binomials, repeating decimals, scientific notation."""

import re
from fractions import Fraction
from math import comb, factorial, perm

_FACTORIAL = re.compile(r"(?<![\w.!^)])(\d{1,3})!(?![!\d=])")
_MAX_FACTORIAL = 170
_BINOMIAL = re.compile(
    r"\\[dt]?binom\s*\{\s*(\d{1,4})\s*\}\s*\{\s*(\d{1,4})\s*\}"
    r"|\\?\b(?:mathrm|rm)?\s*\{?\s*C\s*\}?\s*_\{?(\d{1,3})\}?\s*\^\{?(\d{1,3})\}?(?!\d)|\bC\((\d{1,3}),\s*(\d{1,3})\)"
)
# C_5^2C_3^1 is 10×3, and not 103.
_FACTOR = re.compile(
    r"(?<=[\d})])\s*(?=(?:\\(?:mathrm|rm)\s*\{?\s*|\{\\rm\s*)?[CAP]\s*\}?\s*_\{?\d{1,3}\}?\s*\^|(?<=\})\\[dt]?binom)"
)
_PERMUTATION = re.compile(r"\\?\b(?:mathrm|rm)?\s*\{?\s*[AP]\s*\}?\s*_\{?(\d{1,3})\}?\s*\^\{?(\d{1,3})\}?(?!\d)")
_REPEATING = re.compile(
    r"(?<![\d.])(\d+)\.(\d*)(?:\\(?:overline|bar)\s*\{?\s*(\d+)\s*\}?|\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?"
    r"|\((\d+)\)(?![/\d])|(?<=\d)(\u0307)(?:(\d*)(\d)\u0307)?|(\d*)循环)"
)
_SCIENTIFIC = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)[eE]([+-]?\d{1,2})(?![\w.])")
_POWER_OF_TEN = re.compile(r"\s*(?:[×*·⋅]|\\times|\\cdot|x)\s*10\s*\^\s*\{?\s*\(?([+-]?\d{1,2})\)?\s*\}?(?!\d)")


def _repeating(match: re.Match[str]) -> str:
    """0.1\\dot{6}, 0.(3), 0.\\overline{142857}: the fraction that is meant."""
    whole, fixed = match[1], match[2]
    if match[8]:
        # the first dot stands on the last digit so far
        fixed, start = fixed[:-1], fixed[-1]
        cycle = start + (match[9] or "") + (match[10] or "")
    else:
        cycle = match[3] or match[7] or match[11] or (match[4] or "") + (match[5] or "") + (match[6] or "")
        if match[0].endswith("循环"):
            fixed, cycle = "", fixed + (match[11] or "")
    if not cycle or len(cycle) + len(fixed) > 30:
        return match[0]
    value = Fraction(int(fixed or 0), 10 ** len(fixed)) + Fraction(
        int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed)
    )
    value += int(whole)
    return f"({value.numerator}/{value.denominator})"


def _binomial(match: re.Match[str]) -> str:
    upper, lower = (int(group) for group in match.groups() if group is not None)
    return str(comb(upper, lower)) if upper <= 1000 else match[0]


def _permutation(match: re.Match[str]) -> str:
    upper, lower = int(match[1]), int(match[2])
    return str(perm(upper, lower)) if upper <= _MAX_FACTORIAL else match[0]


def _factorial(match: re.Match[str]) -> str:
    return str(factorial(int(match[1]))) if int(match[1]) <= _MAX_FACTORIAL else match[0]


def closed_values(text: str) -> str:
    """Factorials, binomials, permutations, repeating decimals and scientific notation as numbers."""
    text = _FACTOR.sub("×", text)
    if "C" in text or "binom" in text:
        text = _BINOMIAL.sub(_binomial, text)
    if "_" in text:
        text = _PERMUTATION.sub(_permutation, text)
    if "!" in text:
        text = _FACTORIAL.sub(_factorial, text)
    if "." in text:
        text = _REPEATING.sub(_repeating, text)
    return _POWER_OF_TEN.sub(r"×10^\1", _SCIENTIFIC.sub(r"\1×10^\2", text))
