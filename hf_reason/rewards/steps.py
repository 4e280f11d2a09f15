"""The reward for the way: which of the steps are right?"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hf_reason.answers.forms import pure_number

from .completion import Chain, column, problems, read_chains, references
from .known_numbers import stated_numbers
from .step_judge import FALSE, FOREIGN, HOLDS, TAINTED, equations_of, judge_steps


class StepReward:
    """See `get_step_reward`."""

    __name__ = "step_reward"

    def __init__(self, thinking: bool | None = None):
        self.thinking = thinking

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        rows = len(completions)
        told = problems(columns, prompts, rows)
        known = any(columns.get(name) is not None for name in ("answer", "solution"))
        answers = references(columns, rows, self.__name__) if known else [""] * rows
        chains = column("steps", columns["steps"], rows) if columns.get("steps") is not None else [()] * rows
        return [
            reward_of(chain, problem, answer, tuple(reference or ()))
            for chain, problem, answer, reference in zip(
                read_chains(completions, prompts, self.thinking), told, answers, chains, strict=True
            )
        ]


@lru_cache(maxsize=2**12)
def _calculations(steps: tuple[str, ...]) -> int:
    return sum(bool(equations_of(step)) for step in steps)


def reward_of(chain: Chain, problem: str, answer: str, reference: tuple[str, ...]) -> float | None:
    """The reward of one completion; see `step_reward`."""
    verdicts = judge_steps(chain.steps, problem, chain.answer.strip() or answer or None)
    right = verdicts.count(HOLDS)
    wrong = verdicts.count(FALSE) + verdicts.count(FOREIGN)
    wanted = _calculations(reference)
    excess = max(0, right - 2 * wanted - 2) if wanted else 0
    right = min(right, wanted) if wanted else right
    if right + wrong:
        return right / (right + wrong + excess)
    if TAINTED in verdicts:
        return None
    calculates = wanted or (bool(answer) and pure_number(answer) is not None and len(stated_numbers(problem)) > 1)
    return 0.0 if calculates else None


def step_reward(
    completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
) -> list[float | None]:
    """The fraction of right steps among those that are right or wrong, by rules (`judge_steps`), in [0, 1].

        right / (right + wrong + excess)

        right = min(h, n), excess = max(0, h - 2n - 2);  h steps hold, n steps of the reference calculate

    A step holds when its equations do and every number in them comes from the problem, an earlier result or the
    constants of daily life. Filler, repetitions, calculations that lead nowhere and prose count on neither side.
    The reference chain only says how many steps the problem takes: cutting a chain into smaller ones does not dilute
    its errors, and counting up to the answer does not pay. Without a reference chain right = h and excess = 0.

    A chain without any step that counts gets 0 where the problem asks for a calculation (the reference calculates, or
    is a number and the problem states at least two), and `None` where it does not, or where the chain goes on from
    numbers that only algebra or prose has made.

    Args:
        completions: Strings, or lists of messages.
        prompts: Strings, or lists of messages; the problem is read from them where there is no column `context`.
        columns: The data set's columns: `context` (and `task`), `answer` (or `solution`) and `steps` are used where
            they are there.

    Raises:
        ValueError: a column of another length.
    """
    return StepReward()(completions, prompts, **columns)


def get_step_reward(thinking: bool | None = None) -> StepReward:
    """`step_reward` for models whose chat template opens the thought; see `get_answer_reward`."""
    return StepReward(thinking)
