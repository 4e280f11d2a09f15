"""The labels of a chain as an outline: runs of one style that count up, and the runs inside their items."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter

from .labels import Label

_DEEPEST = 12  # levels that are open at once; the bound keeps the time linear
_WORDED_GAP = 3  # "步骤1, 步骤3": a number that names its step may skip some
_BARE_GAP = 2


@dataclass(eq=False)
class Run:
    """Labels of one style that count up.

    Attributes:
        labels: In order.
        inside: Runs within the items, as pairs `(index of the item, run)`, in order.
    """

    labels: list[Label]
    inside: list[tuple[int, "Run"]] = field(default_factory=list)

    @property
    def first(self) -> Label:
        return self.labels[0]

    @property
    def last(self) -> Label:
        return self.labels[-1]

    def walk(self) -> Iterator["Run"]:
        """This run and every one inside it."""
        yield self
        for _, run in self.inside:
            yield from run.walk()


def _continues(run: Run, label: Label) -> bool:
    last = run.last
    ahead = label.value - last.value
    if ahead < 1 or last.style != label.style:
        return False
    if ahead == 1 or label.part:
        return True
    if label.worded:
        return ahead <= _WORDED_GAP
    same_line_up = label.place == "line" == last.place and label.indent == last.indent
    return same_line_up and len(run.labels) > 1 and ahead == _BARE_GAP


def _opens(label: Label) -> bool:
    return label.value in (0, 1) or label.worded or label.part


def _level(stack: list[Run], label: Label) -> int | None:
    """The open run that a label continues: one that it counts up by one, lines up with, and the innermost of these."""

    def rank(index: int) -> tuple[bool, bool, int]:
        last = stack[index].last
        return label.value == last.value + 1, (last.place, last.indent) == (label.place, label.indent), index

    return max((index for index, run in enumerate(stack) if _continues(run, label)), key=rank, default=None)


def _lazy(labels: list[Label]) -> list[Label]:
    """Markdown lists whose numbers are all 1, counted up."""
    values: dict[tuple[str, int], list[int]] = defaultdict(list)
    for label in labels:
        if label.place == "line" and not label.worded and not label.part:
            values[label.style, label.indent].append(label.value)
    lazy = {key for key, found in values.items() if len(found) > 1 and set(found) == {1}}
    counts: dict[tuple[str, int], int] = defaultdict(int)
    counted = []
    for label in labels:
        key = (label.style, label.indent)
        if label.place == "line" and key in lazy:
            counts[key] += 1
            label = replace(label, value=counts[key])
        counted.append(label)
    return counted


def _follows(parent: Run, child: Run) -> bool:
    """Whether a run in the last item of another one stands beside it: numbering that starts again."""
    if child.first.worded and not (parent.first.worded or parent.first.part):
        others = [run for item, run in parent.inside if item < len(parent.labels) - 1 and run.first.worded]
        return not others and len(parent.labels) > 1
    same = child.first.style == parent.first.style and child.first.indent == parent.first.indent
    return same and child.first.place == parent.first.place and len(child.labels) > 1 and child.first.value <= 1


def _settled(runs: list[Run]) -> list[Run]:
    """`runs` with those that restart a numbering moved behind the run whose last item they stood in."""
    settled: list[Run] = []
    waiting = runs[::-1]
    while waiting:
        run = waiting.pop()
        last = len(run.labels) - 1
        beside = [child for item, child in run.inside if item == last and _follows(run, child)]
        if beside:
            start = beside[0].first.start  # all that follows stands beside it as well
            moved = [child for _, child in run.inside if child.first.start >= start]
            run.inside = [(item, child) for item, child in run.inside if child.first.start < start]
            waiting += moved[::-1]
        settled.append(run)
    for run in settled:
        run.inside = [
            (item, child)
            for item, group in groupby(run.inside, key=itemgetter(0))
            for child in _settled([child for _, child in group])
        ]
    return settled


def outline(labels: list[Label]) -> list[Run]:
    """The outermost runs of a chain, in order; time is linear in the number of labels.

    A run begins with 0 or 1 (with any number where it names its step or a part, or stands below the name of a part)
    and counts up; named steps may skip up to two numbers, numbers at the start of lines one. A number that goes back
    belongs to the step that it stands in, unless the numbering restarts: then a new run stands beside the old one.
    """
    top: list[Run] = []
    stack: list[Run] = []
    parts = any(label.part for label in labels)
    for label in labels if parts else _lazy(labels):
        level = _level(stack, label)
        if level is not None:
            del stack[level + 1 :]
            stack[level].labels.append(label)
            continue
        if not _opens(label) and not (stack and stack[-1].first.part and label.place == "line"):
            continue
        del stack[_DEEPEST - 1 :]
        run = Run([label])
        if stack:
            stack[-1].inside.append((len(stack[-1].labels) - 1, run))
        else:
            top.append(run)
        stack.append(run)
    return _settled(top)
