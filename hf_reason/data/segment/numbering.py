"""Numbering in front of steps that come as a list, removed without touching the step."""

from collections.abc import Iterable
from itertools import pairwise

from hf_reason.answers.traditional import simplified

from .labels import Label, leading_label


def _without(step: str, label: Label) -> str:
    body = label.keep + step[label.end :].strip()
    return body if body else step


def strip_numbering(step: str) -> str:
    """`step` without the number in front of it; a number that is content (`3.5×2=7`, `12 + 4`) stays."""
    step = step.strip()
    label = leading_label(simplified(step))
    return _without(step, label) if label else step


def strip_sequence(steps: Iterable[str]) -> list[str]:
    """`steps` without their numbering, if every one is numbered in one style and the numbers count up.

    They may start again at 1 (`步骤1, 步骤2, 步骤1`), as for two questions in one chain.
    """
    stripped = [step.strip() for step in steps]
    labels = [leading_label(simplified(step)) for step in stripped]
    found = [label for label in labels if label is not None]
    if not found or len(found) < len(stripped) or (len(found) == 1 and not found[0].worded):
        return stripped
    if any(b.style != a.style or b.value not in (a.value + 1, 1) for a, b in pairwise(found)):
        return stripped
    return [_without(step, label) for step, label in zip(stripped, found, strict=True)]
