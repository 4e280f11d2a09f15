"""Where in a text its equations stand, for those who show it.

`find_equations` rewrites a text before it reads it, so it knows no places. Here the shortest part of the text is
sought that states the same equation: what is marked is what was judged.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .equations import Equation, find_equations

_DIGIT = r"\d零〇一二两三四五六七八九十百千万亿"
_PIECE = re.compile(r"[^\n。；;！？]+")
# Where an equation may begin and end: before and after a whole number, a bracket, a sign of LaTeX.
_BEGINS = re.compile(rf"(?<![{_DIGIT}.])[{_DIGIT}]|[(（\[√\\$-]|(?<=\D)\.(?=\d)")
_ENDS = re.compile(rf"[{_DIGIT}](?![{_DIGIT}%]|\.\d)|[)）\]}}%‰²³½⅓¼¾]")
# Each place costs a scan; what is longer is not told apart.
_MAX_PIECE = 400


@dataclass(frozen=True)
class Located:
    """An equation and its place.

    Attributes:
        equation: What `find_equations` says of it.
        start, end: Its characters, `text[start:end]`; both 0 where the place could not be told.
    """

    equation: Equation
    start: int = 0
    end: int = 0


def locate_equations(text: str) -> list[Located]:
    """`find_equations`, each with its place; places do not overlap and are in order.

    In a chain a=b=c the second equation's place is what follows the first one's.
    """
    whole = find_equations(text)
    if not whole:
        return []
    found = [located for match in _PIECE.finditer(text) for located in _in_piece(match[0], match.start())]
    if [located.equation for located in found] != whole:  # one goes on in the next line
        return list(_in_piece(text, 0))
    return found


def _in_piece(piece: str, offset: int) -> Iterator[Located]:
    equations = find_equations(piece)
    if len(piece) > _MAX_PIECE:
        yield from map(Located, equations)
        return
    ends = [match.end() for match in _ENDS.finditer(piece)] if equations else []
    begins = [match.start() for match in _BEGINS.finditer(piece)] if equations else []
    last = 0
    for number, equation in enumerate(equations, 1):
        fits = (end for end in ends if end > last and find_equations(piece[:end])[:number] == equations[:number])
        end = next(fits, 0)
        starts = (start for start in reversed(begins) if start < end and _ends_in(piece[start:end], equation))
        start = max(next(starts, -1), last)
        if end and start < end and (start or _ends_in(piece[:end], equation)):
            yield Located(equation, offset + start, offset + end)
            last = end
        else:
            yield Located(equation)


def _ends_in(text: str, equation: Equation) -> bool:
    return find_equations(text)[-1:] == [equation]
