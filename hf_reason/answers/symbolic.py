"""Formulas: their numerical value where they have one, and math-verify for the rest."""

import cmath
import logging
import math
import re
import signal
import threading
from fractions import Fraction

from .closed import closed_values
from .normalise import undressed
from .spoken import formulas

# What makes a computer algebra system run for ever: towers, long exponents, big factorials.
_HOSTILE = re.compile(
    r"(?:\^|\*\*)\s*[{(]?\s*-?\d{4,}|\d{4,}\s*!|!\s*!"
    r"|(?:\^|\*\*)[^+\-=]{0,20}(?:\^|\*\*)[^+\-=]{0,20}(?:\^|\*\*)"
)
MAX_SYMBOLIC = 500
_TIMEOUT_SECONDS = 3
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[a-zπ]))")
_SHORT_FRACTION = re.compile(r"\\[cdt]?frac\s*(\d)\s*(\d)")
# math-verify reads 2ab as 2.
_COEFFICIENT = re.compile(r"(?<![\\A-Za-z\d.^_{])(\d+)(?=[a-z]{2}(?![a-z]))")
_FUNCTIONS = {"\\sin": math.sin, "\\cos": math.cos, "\\tan": math.tan, "\\ln": math.log, "\\lg": math.log10}
_WORDS = re.compile(r"(?<![\\A-Za-z])(sqrt|pi|sin|cos|tan|cot|log|ln|lg|infty)(?![A-Za-z])")
_SQRT_CALL = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_CONSTANTS = {"\\pi": math.pi, "π": math.pi, "e": math.e}
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degree)")
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot)")
_TIMES = {"*", "×", "·", "\\times", "\\cdot"}
_FORMULA_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d+)?|\.\d+))|(?P<name>\\[A-Za-z]+|[A-Za-zπ])|(?P<op>\*\*|[-+*/^(){}\[\]×÷·!%|]))"
)


def as_latex(text: str) -> str:
    """A formula as LaTeX: 2√3 -> 2\\sqrt{3}, 3pi -> 3\\pi, sin30° -> \\sin(30\\pi/180), +∞ -> \\infty."""
    text = closed_values(formulas(undressed(text))).replace("×10^", r"\times 10^")
    text = _COEFFICIENT.sub(r"\1*", _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text))
    text = re.sub(r"\\[lr]vert(?![a-z])", "|", text)
    text = re.sub(r"10\^(-?\d{2,}|-\d)", r"10^{\1}", text)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", text)
    text = _SQRT_CALL.sub(r"\\sqrt{\1}", _WORDS.sub(r"\\\1", text))
    if _ANGLE.search(text):
        text = _DEGREES.sub(r"{(\1\\pi/180)}", text)
    for sign, latex in (
        ("π", r"\pi "),
        ("∞", r"\infty "),
        ("∪", r"\cup "),
        ("∩", r"\cap "),
        ("×", r"\times "),
        ("≤", r"\le "),
        ("≥", r"\ge "),
        ("≠", r"\ne "),
        ("±", r"\pm "),
        ("÷", r"\div "),
    ):
        text = text.replace(sign, latex)
    return text


class _Formula:
    """A value without unknowns, by recursive descent over LaTeX; ValueError for anything else."""

    def __init__(self, text: str):
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _FORMULA_TOKEN.match(text, at)
            if match is None:
                raise ValueError
            self.tokens.append(match[0].strip())
            at = match.end()
        self.at = self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def total(self) -> float:
        self.depth += 1
        if self.depth > 30:
            raise ValueError
        value = self.product()
        while self.peek() in ("+", "-") and self.peek():
            value = value + self.product() if self.take() == "+" else value - self.product()
        self.depth -= 1
        return value

    def product(self) -> float:
        sign = 1.0
        while self.peek() in ("+", "-") and self.peek():
            sign = -sign if self.take() == "-" else sign
        value = self.power()
        while token := self.peek():
            if token in _TIMES:
                self.take()
                value *= self.power()
            elif token in ("/", "÷", "\\div"):
                self.take()
                value /= self.power()
            elif token[0] in "\\({πe" and token not in ("\\right",):
                value *= self.power()
            else:
                break
        return sign * value

    def power(self) -> float:
        value = self.atom()
        while self.peek() in ("%", "!") and self.peek():
            if self.take() == "!":
                raise ValueError
            value /= 100
        if self.peek() in ("^", "**"):
            self.take()
            exponent = -self.power() if self.peek() == "-" and self.take() else self.power()
            if abs(exponent) > 300:
                raise ValueError
            value = value**exponent
            if isinstance(value, complex):
                raise ValueError
        return value

    def group(self) -> float:
        """An argument of a LaTeX command: `{...}`, or one sign."""
        if self.peek() in ("{", "("):
            return self.atom()
        token = self.take()
        return _CONSTANTS[token] if token in _CONSTANTS else float(token)

    def atom(self) -> float:
        token = self.take()
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token in ("(", "{", "["):
            value = self.total()
            if self.take() != {"(": ")", "{": "}", "[": "]"}[token]:
                raise ValueError
            return value
        if token == "|":
            value = abs(self.total())
            if self.take() != "|":
                raise ValueError
            return value
        if token == "\\sqrt":
            degree = 2.0
            if self.peek() == "[":
                degree = self.atom()
            return self.group() ** (1 / degree)
        if token in ("\\frac", "\\dfrac", "\\tfrac", "\\cfrac"):
            upper = self.group()
            return upper / self.group()
        if token in _FUNCTIONS:
            # \sin^2 x
            exponent = 1.0
            if self.peek() == "^":
                self.take()
                exponent = self.group()
            return _FUNCTIONS[token](self.power()) ** exponent
        return float(token)


def numeric(text: str) -> float | None:
    """The value of a formula without unknowns (2\\sqrt{3}, \\frac{\\pi}{2}, \\sin 30^\\circ), or `None`."""
    if len(text) > MAX_SYMBOLIC or "_" in text:
        return None
    latex = as_latex(text).strip()
    try:
        formula = _Formula(latex)
        value = formula.total()
        if formula.peek() or isinstance(value, complex) or not math.isfinite(value):
            return None
        return value
    except (ValueError, OverflowError, ZeroDivisionError, KeyError, TypeError):
        return None


def close(left: float | Fraction, right: float | Fraction, tolerance: float = 1e-9) -> bool:
    """Whether two values are equal up to a RELATIVE tolerance, with 0 only for what float arithmetic leaves of 0."""
    try:
        one, other = float(left), float(right)
    except OverflowError:
        return left == right
    return cmath.isclose(one, other, rel_tol=tolerance, abs_tol=1e-15 if 0 in (one, other) else 0.0)


def hostile(text: str) -> bool:
    return bool(_HOSTILE.search(text))


def verify_symbolic(answer: str, reference: str) -> bool | None:
    """Compare two formulas by math-verify; `None` where it cannot parse either side, or must not try."""
    if max(len(answer), len(reference)) > MAX_SYMBOLIC or hostile(reference) or hostile(answer):
        return None
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # math-verify stops a long computation by SIGALRM, which only the main thread may set and which
    # would cancel an alarm that somebody else has running.
    free = threading.current_thread() is threading.main_thread() and not signal.getitimer(signal.ITIMER_REAL)[0]
    limit = _TIMEOUT_SECONDS if free else None

    def parsed(text: str) -> list:
        wrapped = text if "$" in text or r"\(" in text or r"\[" in text else f"${text}$"
        return parse(wrapped, fallback_mode="no_fallback", parsing_timeout=limit)

    gold, target = parsed(reference), parsed(answer)
    if not gold or not target:
        return None
    # The reference goes first: math-verify's comparison is not symmetric.
    return bool(verify(gold, target, allow_set_relation_comp=True, timeout_seconds=limit))
