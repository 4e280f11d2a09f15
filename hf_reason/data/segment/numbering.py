"""Numbering in front of steps that come as a list, removed without touching the step."""

from collections.abc import Iterable

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
    """`steps` without their numbering, if every one is numbered in one style and the numbers count up."""
    stripped = [step.strip() for step in steps]
    labels = [leading_label(simplified(step)) for step in stripped]
    found = [label for label in labels if label is not None]
    if not found or len(found) < len(stripped) or (len(found) == 1 and not found[0].worded):
        return stripped
    first = found[0]
    if any(label.style != first.style or label.value != first.value + i for i, label in enumerate(found)):
        return stripped
    return [_without(step, label) for step, label in zip(stripped, found, strict=True)]
