"""Arithmetic expressions as exact fractions: a bounded parser (no `eval`), its tree, and number formatting."""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, isqrt

# Bounds that no honest school problem reaches; they make a hostile text fail at once.
MAX_LENGTH = 2000
_MAX_DEPTH = 60
_MAX_EXPONENT = 64
_MAX_BITS = 4096

_SYMBOLS = str.maketrans(
    {
        "×": "*",
        "✕": "*",
        "✖": "*",
        "·": "*",
        "⋅": "*",
        "∙": "*",
        "•": "*",
        "∗": "*",
        "÷": "÷",
        "∶": "÷",
        ":": "÷",
        "−": "-",
        "–": "-",
        "[": "(",
        "]": ")",
        "{": "(",
        "}": ")",
        "²": "^2",
        "³": "^3",
    }
)
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+)(?P<scale>[万亿])?|(?P<op>\*\*|[-+*/÷^%()]))"
)
_SCALES = {"万": 10**4, "亿": 10**8}


@dataclass(frozen=True)
class Number:
    """A constant as it was written; `style` is "decimal" (integers too), "fraction" or "percent"."""

    value: Fraction
    style: str = "decimal"


@dataclass(frozen=True)
class Operation:
    """`left op right`, where op is one of + - * / ^."""

    op: str
    left: "Node"
    right: "Node"


Node = Number | Operation


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise ValueError(f"A number of the expression has more than {_MAX_BITS} bits.")
    return value


def _square_root(value: Fraction) -> Fraction:
    upper, lower = (isqrt(max(part, 0)) for part in (value.numerator, value.denominator))
    if Fraction(upper, lower) ** 2 != value:
        raise ValueError(f"The square root of {value} is no fraction.")
    return Fraction(upper, lower)


def compute(op: str, left: Fraction, right: Fraction) -> Fraction:
    """One operation, exactly.

    Raises:
        ValueError: division by zero, a power that is not a small integer, or a result out of bounds.
    """
    if op == "+":
        return _bounded(left + right)
    if op == "-":
        return _bounded(left - right)
    if op == "*":
        return _bounded(left * right)
    if op == "/":
        if right == 0:
            raise ValueError("Division by zero.")
        return _bounded(left / right)
    if right == Fraction(1, 2):
        return _square_root(left)
    if right.denominator != 1 or abs(right) > _MAX_EXPONENT:
        raise ValueError(f"Exponent {right} is not an integer within ±{_MAX_EXPONENT}.")
    if left == 0 and right < 0:
        raise ValueError("Division by zero.")
    bits = max(left.numerator.bit_length(), left.denominator.bit_length())
    if bits * abs(int(right)) > _MAX_BITS:
        raise ValueError(f"A power of the expression has more than {_MAX_BITS} bits.")
    return left ** int(right)


def evaluate(node: Node) -> Fraction:
    """The exact value of a tree that `parse_expression` made."""
    # A flat sum of a thousand terms is a thousand levels deep on the left, so no recursion there.
    pending: list[Operation] = []
    while isinstance(node, Operation):
        pending.append(node)
        node = node.left
    value = node.value
    for operation in reversed(pending):
        value = compute(operation.op, value, evaluate(operation.right))
    return value


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, fraction_binds: bool, mixed: bool):
        if len(text) > MAX_LENGTH:
            raise ValueError(f"The expression has {len(text)} characters, more than {MAX_LENGTH}.")
        # "2³" must become 2^3 before NFKC turns the sign into a plain digit.
        text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS).rstrip()
        self.tokens: list[tuple[str, Fraction | None]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"Not arithmetic at {text[position : position + 10]!r} in {text[:80]!r}.")
            number = match["number"]
            if number:
                value = _bounded(Fraction(number.replace(",", "")) * _SCALES.get(match["scale"], 1))
                self.tokens.append((number, value))
            else:
                self.tokens.append((match["op"].replace("**", "^"), None))
            position = match.end()
        self.at, self.depth, self.fraction_binds, self.mixed = 0, 0, fraction_binds, mixed

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else ""

    def integer(self, ahead: int) -> Fraction | None:
        """The value of the token `ahead`, if it is an integer literal."""
        return self.tokens[self.at + ahead][1] if self.peek(ahead).isdigit() else None

    def parse(self) -> Node:
        node = self.sum()
        if self.peek():
            raise ValueError(f"Unexpected {self.peek()!r} in an expression.")
        return node

    def sum(self) -> Node:
        node = self.product()
        while self.peek() in ("+", "-"):
            op = self.next()
            node = Operation(op, node, self.product())
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            if self.peek() == "(":
                node = Operation("*", node, self.power())
            elif self.peek() in ("*", "/", "÷"):
                op = self.next()
                right = self.fraction_literal() if op == "÷" and self.fraction_binds else None
                node = Operation("*" if op == "*" else "/", node, right or self.signed())
            else:
                return node

    def fraction_literal(self) -> Number | None:
        """`p/q` after ÷ is one number, as in 280÷1/4, unless a power or a bracket claims its parts."""
        upper, lower = self.integer(0), self.integer(2)
        if upper is None or not lower or self.peek(1) != "/" or self.peek(3) in ("^", "(", "%"):
            return None
        self.at += 3
        return Number(upper / lower, "fraction")

    def signed(self) -> Node:
        sign = self.peek()
        if sign not in ("+", "-"):
            return self.power()
        self.next()
        self.enter()
        node = self.signed()
        self.depth -= 1
        if sign == "+":
            return node
        if isinstance(node, Number):
            return Number(-node.value, node.style)
        return Operation("*", Number(Fraction(-1)), node)

    def power(self) -> Node:
        node = self.atom()
        while self.peek() == "%":
            self.next()
            if isinstance(node, Number):
                node = Number(node.value / 100, "percent")
            else:
                node = Operation("/", node, Number(Fraction(100)))
        if self.peek() != "^":
            return node
        self.next()
        self.enter()
        node = Operation("^", node, self.signed())
        self.depth -= 1
        return node

    def atom(self) -> Node:
        token = self.next()
        if token == "(":
            self.enter()
            node = self.sum()
            if self.next() != ")":
                raise ValueError("A bracket of the expression is not closed.")
            self.depth -= 1
            return _as_fraction(node)
        value = self.tokens[self.at - 1][1] if token else None
        if value is None:
            raise ValueError(f"A number is missing before {token or 'the end'!r} in an expression.")
        upper, lower = self.integer(1), self.integer(3)
        mixed = self.mixed and self.peek() == "(" and self.peek(2) == "/" and self.peek(4) == ")" and token.isdigit()
        if mixed and upper is not None and lower is not None and upper < lower:
            self.at += 5
            return Number(value + upper / lower, "fraction")
        return Number(value)

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def enter(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"The expression is nested deeper than {_MAX_DEPTH} levels.")


def _as_fraction(node: Node) -> Node:
    """A bracketed `(p/q)` in lowest terms is a fraction that was given, not a division to do."""
    if not isinstance(node, Operation) or node.op != "/":
        return node
    if not isinstance(node.left, Number) or not isinstance(node.right, Number):
        return node
    upper, lower = node.left.value, node.right.value
    if upper.denominator != 1 or lower.denominator != 1 or upper <= 0 or lower <= 1 or gcd(int(upper), int(lower)) > 1:
        return node
    return Number(upper / lower, "fraction")


def parse_expression(text: str, *, fraction_binds: bool = True, mixed: bool = True) -> Node:
    """Parse arithmetic in any of the writings of school texts.

    Takes + - * / ^ ** × ÷ · and the ratio sign, round, square and curly brackets, full-width forms,
    percent, decimals, thousands commas, 万 and 亿, mixed numbers (`31(1/9)` is 31 + 1/9) and
    multiplication left out before a bracket (`2(3+4)`).

    Args:
        text: The expression, without an equals sign; at most 2,000 characters.
        fraction_binds: Whether `p/q` right after ÷ is one number (280÷1/4 = 1120). `False` reads
            strictly from left to right.
        mixed: Whether `31(1/9)` is a mixed number. `False` reads it as a product.

    Raises:
        ValueError: anything that is not such an expression, or nested too deep, or too large.
    """
    return _Parser(text, fraction_binds, mixed).parse()


def evaluate_expression(text: str) -> Fraction:
    """The exact value of an arithmetic expression; see `parse_expression` for what it may contain.

    Raises:
        ValueError: not arithmetic, division by zero, or out of bounds (length, nesting, size).
    """
    return evaluate(parse_expression(text))


def format_number(value: Fraction, style: str = "decimal") -> str:
    """Write a number without losing a digit.

    Args:
        value: The number.
        style: "decimal" writes 840 or 2.5 when the number ends within 6 decimals and p/q when it does not;
            "fraction" writes every number that is not an integer as p/q; "percent" writes 15% under the same
            rule as "decimal".
    """
    if style == "percent" and (value * 100 * 10**6).denominator == 1:
        return format_number(value * 100) + "%"
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**6
    if style == "fraction" or scaled.denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = f"{abs(scaled.numerator):07d}"
    return ("-" if value < 0 else "") + f"{digits[:-6]}.{digits[-6:]}".rstrip("0")
