"""Which numbered items of a chain are steps, where each begins and ends, and what of it is mere numbering."""

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from .labels import Label, find_labels
from .outline import Run, outline
from .sentences import CONCLUSION, weight

_LONG_ITEM = 2000  # characters; a numbered item beyond it is prose that happens to hold a number
_LONG_STEM = 200  # bytes; a longer text in front of an item is a step of its own
_LONG_HEADING = 30  # characters
_LONG_ENTRY = 80  # characters; a choice or a given fact is short
_EQUATION = re.compile(r"[=＝≈≤≥]")
_QUANTITY = re.compile(r"[\s*]*\d{1,4}[ \t]*[\u3400-\u9fffA-Za-z%％°]{0,2}[；;。，,.\s]*")
_SIGN = r"(?:[①-⑳]|[(（]\d{1,2}[)）])"
_NAMED = re.compile(
    rf"(?:[由将把从]|联立|代入|{_SIGN}[ \t]*[-+−×]|(?i:from|by|adding|into|using)[ \t])[ \t]*{_SIGN}"
    rf"|{_SIGN}(?:式|代入)"
)
_TEXT_END = re.compile(r"[。.!?！？；;，,]\W*\Z")
_SENTENCE = re.compile(r"[。！？；]|[.!?;](?:\s|$)|\n")
# What announces data, equations or choices and not steps.
_GIVEN = re.compile(
    r"(?:已知|条件|数据|信息|选项|选择|答案|(?<![解求])方程组?|数字|"
    r"(?i:\b(?:given|known|data|options?|choices?|conditions?|facts?|equations?|information)\b))"
    r"(?:条件|信息|数据|如下|以下|下列|分别|包括|[有为是中里的了]|[两三四几][个条]|\s|"
    r"(?i:as follows|follows|that|are|is))*"
    r"[:：]?[\s*]*\Z"
)


@dataclass
class Items:
    """The numbered steps of a chain.

    Attributes:
        cuts: Positions where a step begins, each with the spans of its numbering and the Markdown kept for each.
        closed: One byte a character; the chain is not cut at positions that are not 0.
    """

    closed: bytearray
    cuts: dict[int, list[Label]] = field(default_factory=dict)

    def close(self, start: int, end: int) -> None:
        """Keep `[start, end)` in one piece."""
        self.closed[start + 1 : end] = b"\x01" * max(0, end - start - 1)


@dataclass
class _Text:
    """A chain with what was found in it: positions of sentences, paragraphs and stops, all in order."""

    folded: str
    starts: list[int]
    paragraphs: list[int]
    stops: list[int]

    @cached_property
    def names_equations(self) -> bool:
        """Whether the chain speaks of an equation by its number ("由①得", "(1)+(2)")."""
        return _NAMED.search(self.folded) is not None

    def next_start(self, position: int) -> int:
        index = bisect_right(self.starts, position)
        return self.starts[index] if index < len(self.starts) else len(self.folded)

    def lead(self, label: Label) -> int:
        """Where the line begins that announces a list on the next line; `label.start` without one."""
        before = self.folded[max(0, label.start - _LONG_STEM) : label.start].rstrip()
        line = before[before.rfind("\n") + 1 :]
        heads = line.rstrip("*").endswith((":", "：")) or (len(line) <= _LONG_HEADING and not _TEXT_END.search(line))
        if label.place != "line" or not line.strip() or not heads or _EQUATION.search(line):
            return label.start
        return self.folded.rfind(line, 0, label.start)

    def line_end(self, position: int) -> int:
        """Where a line ends, or where an item is too long to have one."""
        limit = min(position + _LONG_ITEM, len(self.folded))
        end = self.folded.find("\n", position, limit)
        return limit if end < 0 else end


def _bodies(text: _Text, run: Run) -> list[str]:
    """The text of each item; the last one to the end of its sentence."""
    ends = [label.start for label in run.labels[1:]]
    last = min(text.next_start(run.last.end), text.line_end(run.last.end), run.last.end + _LONG_ITEM)
    return [text.folded[label.end : end] for label, end in zip(run.labels, [*ends, last], strict=True)]


def _is_listing(text: _Text, run: Run) -> bool:
    """Whether a run lists choices, or what is given, inside of a step."""
    first = run.first
    if first.worded or first.part:
        return False
    bodies = _bodies(text, run)
    if max(map(len, bodies)) > _LONG_ENTRY or any(_SENTENCE.search(body.rstrip("。.；;，, \n")) for body in bodies):
        return False
    if first.option:
        return len(bodies) > 2
    return _GIVEN.search(text.folded[max(0, first.start - 40) : first.start]) is not None


def _are_equations(bodies: list[str]) -> bool:
    return all(_EQUATION.search(body) and len(body) <= _LONG_HEADING for body in bodies)


def _are_steps(text: _Text, run: Run) -> bool:
    """Whether the items of a run are steps, by what they say where their place leaves it open."""
    first = run.first
    if first.option:
        return False
    if first.worded or first.part:
        return True
    bodies = _bodies(text, run)
    places = {label.place for label in run.labels}
    if places == {"line"} and not (first.sign and text.names_equations):
        told = [_EQUATION.search(body) or _SENTENCE.search(body) for body in bodies]
        return not first.letter or all(told) or any(child.first.worded for _, child in run.inside)
    if not all(any(map(str.isalnum, body)) for body in bodies) or (
        first.style == "dot" and any(map(_QUANTITY.fullmatch, bodies))
    ):
        return False  # "1. 2元；2. 4元": decimals
    if first.place == "clause" or (first.sign and text.names_equations and _are_equations(bodies)):
        return False
    return not (first.letter or "clause" in places) or all(map(_EQUATION.search, bodies))


def _last_end(text: _Text, run: Run, limit: int) -> int:
    """Where the last item of a numbered run ends, which nothing in the text says for certain."""
    first, last = run.first, run.last
    between = text.paragraphs[bisect_right(text.paragraphs, first.start) : bisect_left(text.paragraphs, last.start)]
    if not {label.start for label in run.labels}.issuperset(between):
        # Its items have paragraphs; so may the last one, unless far too much follows.
        longest = max(b.start - a.start for a, b in pairwise(run.labels))
        return limit if limit - last.start <= 2 * longest + 200 else last.start
    index = bisect_right(text.stops, last.end)
    end = min(text.stops[index] if index < len(text.stops) else limit, last.start + _LONG_ITEM, limit)
    if last.place != "line" and not last.worded:  # inside a paragraph the conclusion follows on the same line
        inner = text.starts[bisect_right(text.starts, last.end) : bisect_left(text.starts, end)]
        end = next((start for start in inner if CONCLUSION.match(text.folded, start)), end)
    return end


class _Planner:
    """Goes through the outline of a chain and notes its steps."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.items = Items(bytearray(len(text.folded) + 1))

    def _short(self, start: int, end: int) -> bool:
        body = self.text.folded[start : min(end, start + _LONG_STEM + 1)]
        return weight(body) <= _LONG_STEM and not _EQUATION.search(body)

    def _stem(self, label: Label) -> int:
        """Where the sentence begins that leads to a first item on the same line; `label.start` without one."""
        folded, starts = self.text.folded, self.text.starts
        if label.place == "line":
            return label.start
        index = bisect_left(starts, label.start)
        start = starts[index - 1] if index else 0
        if label.start - start > _LONG_STEM:
            return label.start
        own = folded[start : label.start]
        return start if "\n" not in own.rstrip(" \t") and self._short(start, label.start) else label.start

    def _veto(self, run: Run) -> None:
        """The point behind a number that is no label of a step ends no sentence."""
        if len(run.labels) > 1:
            for label in run.labels:
                self.items.closed[label.end] = 1

    def listing(self, run: Run, limit: int) -> int:
        """Keep a list of data or choices whole and return its end."""
        end = min(self.text.line_end(run.last.end), self.text.next_start(run.last.end), limit)
        self.items.close(max(0, run.first.start - 1), end)
        return end

    @staticmethod
    def _counts(run: Run, alone: bool) -> bool:
        return len(run.labels) > 1 or run.first.part or (alone and run.first.worded)

    def accepted(self, runs: list[Run], alone: bool = False) -> list[Run]:
        """The runs that are steps, in order; those inside a run that is none stand in its place."""
        found: list[Run] = []
        waiting = runs[::-1]
        while waiting:
            run = waiting.pop()
            inside = [child for _, child in run.inside]
            if len(run.labels) > 1 and _is_listing(self.text, run):
                end = self.listing(run, len(self.text.folded))
                waiting += [child for child in inside[::-1] if child.first.start >= end]
            elif (len(run.labels) > 1 or run.first.part or (alone and run.first.worded)) and _are_steps(
                self.text, run
            ):
                found.append(run)
            else:
                self._veto(run)
                waiting += inside[::-1]
        return found

    def _makes_steps(self, label: Label, child: Run) -> bool:
        """Whether a run inside the item of a bare number makes its steps, which are named or all that it holds."""
        empty = not self.text.folded[label.end : child.first.start].strip()
        named = child.first.worded or (child.first.part and empty)
        return (named or empty) and (len(child.labels) > 1 or (named and child.first.start == label.end))

    def _inner(self, run: Run) -> dict[int, list[Run]]:
        """The runs that make the steps of a run's items, by item: named steps, or any below a part."""
        inside: dict[int, list[Run]] = defaultdict(list)
        for item, child in run.inside:
            inside[item].append(child)
        if run.first.part:
            found = {item: self.accepted(children, alone=True) for item, children in inside.items()}
        elif run.first.worded:
            return {}
        else:
            found = {
                item: [child for child in children if self._makes_steps(run.labels[item], child)]
                for item, children in inside.items()
            }
        return {item: runs for item, runs in found.items() if runs}

    def plan(self, runs: list[Run], limit: int, heading: Sequence[Label] = (), start: int = 0) -> None:
        """Note the steps of `runs`, which end at `limit`.

        Args:
            runs: Runs side by side.
            limit: Where the last of them ends at the latest.
            heading: Labels of the items that `runs` stand in, where these have a short heading.
            start: Where that heading begins.
        """
        styles = Counter(run.first.style for run in runs)
        for number, run in enumerate(runs):
            until = self.text.lead(runs[number + 1].first) if number + 1 < len(runs) else limit
            inner = self._inner(run)
            ends = [label.start for label in run.labels[1:]] + [max(run.last.start, _last_end(self.text, run, until))]
            for index, (label, end) in enumerate(zip(run.labels, ends, strict=True)):
                labels, begin = [label], label.start
                if number == index == 0 and heading:
                    labels, begin = [*heading, label], start
                elif index == 0:
                    begin = self._first(label, number, restarts=styles[label.style] > 1)
                last = index == len(ends) - 1
                self._item(run, labels, begin, end, inner.get(index, []), until if last else end)

    def _first(self, label: Label, number: int, restarts: bool) -> int:
        """Where the first item of a run begins: with the line or sentence that leads to it, if that is no step."""
        lead = self.text.lead(label)
        if label.worded and restarts and lead < label.start:
            return lead  # the name of what the numbering starts again for
        if number and lead < label.start:
            self.items.cuts.setdefault(lead, [])
        return self._stem(label)

    def _item(self, run: Run, labels: list[Label], begin: int, end: int, inner: list[Run], limit: int) -> None:
        if inner and self._short(labels[-1].end, inner[0].first.start):
            self.plan(inner, limit, labels, begin)  # the heading belongs to the first step below it
            return
        self.items.cuts.setdefault(begin, labels)
        if begin < labels[-1].start:
            self.items.close(begin, labels[-1].start + 1)
        if inner:
            self.plan(inner, limit)
        elif not run.first.part and (run.first.worded or end - begin <= _LONG_ITEM):
            self.items.close(begin, end)


def numbered_items(
    folded: str, blocked: bytearray, starts: list[int], paragraphs: list[int], stops: list[int]
) -> Items:
    """The numbered steps of a chain, in linear time.

    Args:
        folded: The chain in simplified Chinese; positions are those of the chain.
        blocked: One byte a character; labels at positions that are not 0 are passed over.
        starts: Where sentences begin.
        paragraphs: Where paragraphs begin.
        stops: Where a numbered item ends at the latest: paragraphs and discourse markers at the start of a line.
    """
    planner = _Planner(_Text(folded, starts, paragraphs, stops))
    runs = planner.accepted(outline(find_labels(folded, blocked)))
    flush = [run for run in runs if run.first.indent < 2 or run.first.place != "line"]
    planner.plan(flush or runs, len(folded))
    return planner.items
