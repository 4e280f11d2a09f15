"""Split prose into chains of arithmetic sides joined by = and ≈, and mark the sides that arithmetic cannot check."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .equation_commas import equation_end
from .equation_text import equation_text
from .equation_tokens import TOKENS
from .expressions import evaluate_expression
from .numerals import join_scales

_PIECE = re.compile(r"[\n。；;！？]")
_JOINED = re.compile(r"\d+(?:\.\d+)?亿\d+(?:\.\d+)?万")
_MAX_UNIT = 4
_GROUPED = re.compile(r"(?<![=≈\d,])\d{1,3}(?:,\d{3})+(?![\d,])")
# Words after a number that change its value, so that the number alone says nothing.
_CHANGES_VALUE = re.compile(r"分之|[折成半]$|^[十百千]$|又")
_MAX_WORDS = 6
_LEADS_ON = re.compile(r"的|平方$|立方$|次方$|和|与|比|乘|除|加|减|是|为")


@dataclass
class Segment:
    """One side of an equation: its text without the units.

    Attributes:
        parts: The tokens that count.
        named: The unit after a number, by the place of the number in `parts`.
        numbers: How many numbers the side has.
        units: The words after its numbers.
        operations: How many operations the side has.
        bad: The side cannot be checked (an unknown, a function, a word in place of a number).
        soft: A reading was guessed (`3m` may be a length or an unknown): trust it only if it holds.
        cut: Its number ends in dots (`66.666...%`).
    """

    parts: list[str] = field(default_factory=list)
    named: dict[int, str] = field(default_factory=dict)
    numbers: int = 0
    units: set[str] = field(default_factory=set)
    operations: int = 0
    bad: bool = False
    soft: bool = False
    cut: bool = False

    @property
    def text(self) -> str:
        return "".join(self.parts)


class _Scanner:
    """Builds the chains token by token; `flush` ends a chain.

    The methods that handle a token get its text and the blanks before it (empty: adjacent to the token before).
    """

    def __init__(self) -> None:
        self.chains: list[tuple[list[Segment], list[str]]] = []
        self.reset("start")

    def reset(self, previous: str) -> None:
        self.segments = [Segment()]
        self.signs: list[str] = []
        self.previous = previous
        self.open_at: list[int] = []
        self.doubtful = False
        self.words = 0

    def flush(self, previous: str = "start") -> None:
        if self.signs:
            last = self.segments[-1]
            if not last.parts or self.previous in ("op", "open") or self.open_at:
                last.bad = True
            self.chains.append((self.segments, self.signs))
        self.reset(previous)

    @property
    def current(self) -> Segment:
        return self.segments[-1]

    def after_value(self) -> bool:
        return self.previous in ("number", "close", "unit")

    def number(self, text: str, gap: str) -> None:
        if self.previous == "number" and gap.isspace():
            # "10 000" and "8 5% increases": neither number means what it says alone.
            self.current.bad = True
            self.flush()
            self.current.bad = True
        elif self.after_value() or self.previous == "symbol":
            # "Week 3 + Week 4 = 48 + 48": the 4 ends a side that has a word in it.
            tainted = self.previous == "symbol" and self.current.operations > 0
            self.flush()
            self.current.bad = tainted
        self.current.numbers += 1
        self.current.parts.append(_JOINED.sub(lambda match: join_scales(match[0]), text.replace(" ", "")))
        self.previous = "number"

    def comma_between(self, text: str, following: str, grouped: bool) -> int:
        """Where a comma of `120,120` ends the equation before it (`360÷3=120,120+30=150`); 0: it groups thousands."""
        wanted, operated = None, False
        if self.previous == "sign" and not self.segments[-2].bad:
            other = self.segments[-2]
            operated = other.operations > 0
            try:
                wanted = evaluate_expression(other.text)
            except ValueError:
                wanted = None
        return equation_end(text, wanted, following, grouped, operated)

    def cut_number(self, text: str, gap: str) -> None:
        """`66.666...%`"""
        self.number(text.replace("…", "").replace("...", "").rstrip("."), "")
        self.current.cut = True

    def times(self, text: str, gap: str) -> None:
        """An x in front of a number."""
        if self.after_value():
            self.operator("×", gap)
        else:
            self.symbol(text, gap)

    def operator(self, text: str, gap: str) -> None:
        current = self.current
        if text in "²³":
            text = "^2" if text == "²" else "^3"
            current.parts.append(text)
            current.bad |= self.previous not in ("number", "close")
            current.operations += 1
            return
        current.bad |= self.doubtful
        if not self.after_value() and self.previous != "symbol":
            # A sign at the front belongs to a number, unless a word or another sign is before it.
            current.bad |= text not in "+-" or self.previous == "word" or (self.previous == "op" and text == "+")
        else:
            current.operations += 1
        current.parts.append(text)
        self.previous = "op"

    def open(self, text: str, gap: str) -> None:
        if self.after_value():
            if self.previous == "unit" or gap:
                self.flush()
            else:
                self.current.operations += 1
        elif self.previous == "word":
            self.previous = "start"
        self.open_at.append(len(self.current.parts))
        self.current.parts.append("(")
        self.previous = "open"

    def close(self, text: str, gap: str) -> None:
        if not self.open_at:
            self.flush()
            return
        self.current.bad |= self.previous in ("op", "open")
        self.open_at.pop()
        self.current.parts.append(")")
        self.previous = "close"

    def sign(self, text: str, gap: str) -> None:
        current = self.current
        if self.open_at:
            # "2×(3+5=8)": only what is inside the bracket is part of it.
            parts = current.parts[self.open_at[-1] + 1 :]
            inner = Segment(parts, units=current.units, bad=current.bad, soft=current.soft, cut=current.cut)
            inner.operations = sum(part in ("+", "-", "×", "÷", "*", "**", "/", "^", "·") for part in parts)
            previous, doubtful = self.previous, self.doubtful
            self.reset(previous)
            self.segments, self.doubtful = [inner], doubtful
            current = inner
        current.bad |= self.doubtful or not current.parts or self.previous in ("op", "open")
        self.segments.append(Segment())
        self.signs.append("≈" if text == "≈" else "=")
        self.previous, self.doubtful, self.words = "sign", False, 0

    def rest(self, text: str, gap: str) -> None:
        if self.after_value() and self.signs and not self.open_at and "…" not in self.current.parts:
            self.current.parts.append("…")
            self.previous = "rest"
        else:
            self.flush()

    def note(self, text: str, gap: str) -> None:
        """A word in brackets: a unit after a value."""
        if self.after_value():
            self.word(text.strip("() "), gap)
        else:
            self.flush("word")

    def per(self, text: str, gap: str) -> None:
        """`/hour`: a part of a unit after a value."""
        if self.after_value():
            self.word(text.strip("/ "), gap)
        else:
            self.symbol(text, gap)

    def short_unit(self, text: str, gap: str) -> None:
        """`3m`: a length, or an unknown."""
        self.word(text.strip(), gap)
        self.current.soft = True

    def word(self, text: str, gap: str) -> None:
        current = self.current
        chinese = not text[0].isascii()
        if self.after_value():
            self.words = self.words + 1 if self.previous == "unit" else 1
            if _CHANGES_VALUE.search(text):
                current.bad = True
            if (chinese and len(text) > _MAX_UNIT) or self.words > _MAX_WORDS:
                self.flush("word")
                return
            self.current.soft |= self.words > 2
            self.doubtful |= chinese and bool(_LEADS_ON.search(text))
            current.units.add(text.lower())
            if self.previous == "number":
                current.named[len(current.parts) - 1] = text
            self.previous = "unit"
        elif self.previous in ("op", "open") or self.signs:
            current.bad = True
            current.parts.append("?")
            self.previous = "symbol"
        else:
            self.flush("word")

    def ratio(self, text: str, gap: str) -> None:
        """`12:8` is neither a number nor a clock time for sure; its side cannot be checked."""
        self.current.bad = True
        self.previous = "op"

    def symbol(self, text: str, gap: str) -> None:
        if text in ("a", "A", "I") and gap and self.previous not in ("op", "open"):
            self.word(text, gap)
            return
        self.current.bad = True
        self.current.parts.append("?")
        self.previous = "symbol"


def scan_chains(text: str) -> Iterator[tuple[list[Segment], list[str]]]:
    """Yield the chains of a text: the sides, and the signs (`=` or `≈`) between them.

    A side that holds an unknown, a function or a word is marked `bad`; the sides next to it stay usable.
    """
    for piece in _PIECE.split(equation_text(text)):
        if "=" in piece or "≈" in piece:
            yield from _scan_piece(piece)


def _scan_piece(text: str) -> list[tuple[list[Segment], list[str]]]:
    scanner = _Scanner()
    grouped = bool(_GROUPED.search(text))
    end = 0
    for match in TOKENS.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        # At the beginning nothing is adjacent.
        gap = text[end : match.start()] if end else " "
        handle = _HANDLERS.get(kind or "")
        if handle is None:
            scanner.flush()
        else:
            token = match[0]
            while kind == "number" and "," in token:
                comma = scanner.comma_between(token, text[match.end() : match.end() + 1], grouped)
                if not comma:
                    break
                scanner.number(token[:comma], gap)
                scanner.flush()
                gap, token = " ", token[comma + 1 :]
            handle(scanner, token, gap)
        end = match.end()
    scanner.flush()
    return scanner.chains


# What a kind of token does: (scanner, its text, the blanks before it). Other kinds end a chain.
_HANDLERS: dict[str, Callable[[_Scanner, str, str], None]] = {
    "number": _Scanner.number,
    "cut": _Scanner.cut_number,
    "times": _Scanner.times,
    "op": _Scanner.operator,
    "open": _Scanner.open,
    "close": _Scanner.close,
    "sign": _Scanner.sign,
    "rest": _Scanner.rest,
    "note": _Scanner.note,
    "per": _Scanner.per,
    "short": _Scanner.short_unit,
    "word": _Scanner.word,
    "ratio": _Scanner.ratio,
    "symbol": _Scanner.symbol,
}
