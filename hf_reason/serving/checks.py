"""What the checker says of a chain, step by step as it is written: which equations hold, and where they stand.

Clients ask for it by `check_steps: true`; the page shows it. The rules are those of `hf_reason.answers` and
`hf_reason.rewards.step_judge`.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from hf_reason.answers.expressions import format_number
from hf_reason.answers.locate import locate_equations
from hf_reason.rewards.step_judge import judge_steps
from hf_reason.text.render import OPEN_TAG, parse, step_starts

_OPENED = f"{OPEN_TAG}\n"
# A step label with its line break; also the blanks that may stand before it.
_LABEL = 20
# Bits of a number that is worth writing down.
_MAX_BITS = 200


def equations_in(text: str) -> list[dict[str, Any]]:
    """The equations of a text, as `text`, `start`, `end`, `holds` and `value`.

    The place counts characters and is 0 to 0 where it could not be told. `value` is that of the side with the
    operations: what an equation that does not hold should give; `None` for a number too long to show.
    """
    return [
        {
            "text": text[found.start : found.end] or f"{found.equation.expression}={found.equation.result}",
            "start": found.start,
            "end": found.end,
            "holds": found.equation.holds,
            "value": _written(found.equation.value),
        }
        for found in locate_equations(text)
    ]


def _written(value: Fraction) -> str | None:
    size = value.numerator.bit_length() + value.denominator.bit_length()
    return format_number(value) if size <= _MAX_BITS else None


def check_steps(steps: Sequence[str], context: str, first: int = 0) -> list[dict[str, Any]]:
    """What is to be said of each step from `first` on: its index, text, equations and verdict (`judge_steps`)."""
    verdicts = judge_steps(steps, context)
    return [
        {"index": index, "text": steps[index], "verdict": verdicts[index], "equations": equations_in(steps[index])}
        for index in range(first, len(steps))
    ]


def check_answer(answer: str) -> dict[str, Any]:
    """The answer with its equations."""
    return {"text": answer, "equations": equations_in(answer)}


class StepChecks:
    """Follows the thought of one chain.

    Args:
        context: The problem.
    """

    def __init__(self, context: str) -> None:
        self.context = context
        self.thought = ""
        self.steps: list[str] = []
        self.ended = False

    def add(self, thought: str, steps: Sequence[str] | None = None) -> dict[str, Any] | None:
        """Read more of the thought.

        Args:
            thought: What was written since the last call.
            steps: All steps, once the thought has ended.

        Returns:
            `checks`: the steps that are new or have changed (none follows the last of them), and `checked`: how many
            characters of the thought all steps so far take; `None` without news.
        """
        if self.ended or not (thought or steps is not None):
            return None
        self.thought += thought
        if steps is not None:
            self.ended = True
            return self._news(list(steps), len(self.thought))
        if self.thought.rfind("\n") < len(self.thought) - len(thought) - _LABEL:
            return None  # no label can have been completed
        begin = step_starts(_OPENED + self.thought)[-1][0] - len(_OPENED)
        if begin <= 0:
            return None
        return self._news(parse(_OPENED + self.thought[:begin]).steps, begin)

    def _news(self, steps: list[str], taken: int) -> dict[str, Any] | None:
        same = next((at for at, (old, new) in enumerate(zip(self.steps, steps, strict=False)) if old != new), None)
        if same is None and len(steps) == len(self.steps):
            return None
        first = min(len(self.steps), len(steps) - 1) if same is None else same
        self.steps = steps
        return {"checks": check_steps(steps, self.context, first), "checked": taken}
