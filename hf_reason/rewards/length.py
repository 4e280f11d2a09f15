"""Rewards for the length: a soft penalty near the limit, and a schedule that prefers short right completions."""

import math
from collections.abc import Sequence
from typing import Any

from .answer import reward_of
from .completion import column, read_chains, references


def _lengths(completion_ids: Any, rows: int, needed_by: str) -> list[int]:
    if completion_ids is None:
        raise ValueError(
            f"{needed_by} counts tokens and needs completion_ids, the token ids of each completion; TRL's trainers "
            "pass them."
        )
    return [len(ids) for ids in column("completion_ids", completion_ids, rows)]


class LengthReward:
    """See `get_length_reward`."""

    __name__ = "length_reward"

    def __init__(self, max_completion_length: int, buffer: int):
        if not 0 < buffer <= max_completion_length:
            raise ValueError(
                f"buffer must be between 1 and max_completion_length, got {buffer} and {max_completion_length}."
            )
        self.max_completion_length, self.buffer = max_completion_length, buffer

    def __call__(self, completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> list[float]:
        free = self.max_completion_length - self.buffer
        lengths = _lengths(completion_ids, len(completions), self.__name__)
        return [-min(1.0, max(0.0, (length - free) / self.buffer)) for length in lengths]


def get_length_reward(max_completion_length: int, buffer: int) -> LengthReward:
    """The soft over-long penalty, in [-1, 0]: 0 up to `max_completion_length - buffer` tokens, then falling to -1.

        -min(1, max(0, (length - (max_completion_length - buffer)) / buffer))

    Equation 13 of Yu et al. 2025, "DAPO: An Open-Source LLM Reinforcement Learning System at Scale"
    (arXiv:2503.14476). Long chains that end in time lose nothing.

    Args:
        max_completion_length: The trainer's limit in tokens.
        buffer: The last tokens before it, over which the penalty grows; at least 1.

    Raises:
        ValueError: a buffer out of range; when called, no `completion_ids`.
    """
    return LengthReward(max_completion_length, buffer)


class CosineLengthReward:
    """See `get_cosine_length_reward`."""

    __name__ = "cosine_length_reward"

    def __init__(
        self,
        max_completion_length: int,
        right: tuple[float, float] = (1.0, 0.5),
        wrong: tuple[float, float] = (-1.0, -0.5),
        thinking: bool | None = None,
    ):
        if max_completion_length < 1:
            raise ValueError(f"max_completion_length must be at least 1, got {max_completion_length}.")
        if min(right) <= max(wrong):
            raise ValueError(
                f"Every right completion must get more than every wrong one; right={right} reaches down to "
                f"{min(right)} and wrong={wrong} up to {max(wrong)}."
            )
        self.max_completion_length, self.right, self.wrong = max_completion_length, right, wrong
        self.thinking = thinking

    def __call__(
        self,
        completions: Sequence[Any],
        prompts: Sequence[Any] | None = None,
        completion_ids: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        wanted = references(columns, len(completions), self.__name__)
        lengths = _lengths(completion_ids, len(completions), self.__name__)
        chains = read_chains(completions, prompts, self.thinking)
        verdicts = [reward_of(chain, reference) for chain, reference in zip(chains, wanted, strict=True)]
        return [
            None if right is None else self.scheduled(bool(right), length)
            for right, length in zip(verdicts, lengths, strict=True)
        ]

    def scheduled(self, right: bool, length: int) -> float:
        """The value at a length in tokens."""
        short, long = self.right if right else self.wrong
        progress = min(length / self.max_completion_length, 1.0)
        return long + (short - long) * (1 + math.cos(math.pi * progress)) / 2


def get_cosine_length_reward(
    max_completion_length: int,
    right: tuple[float, float] = (1.0, 0.5),
    wrong: tuple[float, float] = (-1.0, -0.5),
    thinking: bool | None = None,
) -> CosineLengthReward:
    """The answer's reward on a cosine of the length: short right ones are preferred, and long tries among wrong ones.

        long + (short - long) * (1 + cos(pi * min(1, length / max_completion_length))) / 2

    Section 4.2 and appendix C.1 of Yeo et al. 2025, "Demystifying Long Chain-of-Thought Reasoning in LLMs"
    (arXiv:2502.03373). It contains the answer's reward, so use it in the place of `answer_reward`, not beside it.

    Args:
        max_completion_length: The length in tokens at which the schedule ends.
        right: Rewards of a right completion, of no tokens and of `max_completion_length`.
        wrong: The same of a wrong one. All of `right` must be above all of `wrong`.
        thinking: As in `get_answer_reward`.

    Raises:
        ValueError: bounds that overlap; when called, no `completion_ids` or no references.
    """
    return CosineLengthReward(max_completion_length, tuple(right), tuple(wrong), thinking)  # type: ignore[arg-type]
