"""The penalty for completions that repeat themselves."""

from collections.abc import Sequence
from typing import Any

from hf_reason.data.clean.filters import repeated_steps, repetition
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG

from .completion import read_chains


class RepetitionReward:
    """See `get_repetition_reward`."""

    __name__ = "repetition_reward"

    def __init__(self, free: float = 0.5, ngram_size: int = 10, max_penalty: float = -1.0):
        if not 0 <= free < 1:
            raise ValueError(f"free must be in [0, 1), got {free}.")
        if ngram_size < 1:
            raise ValueError(f"ngram_size must be at least 1, got {ngram_size}.")
        if max_penalty > 0:
            raise ValueError(f"max_penalty must not be positive, got {max_penalty}.")
        self.free, self.ngram_size, self.max_penalty = free, ngram_size, max_penalty

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float]:
        rewards = []
        for chain in read_chains(completions, prompts):
            text = chain.text.replace(OPEN_TAG, "").replace(CLOSE_TAG, "")
            worst = max(repetition(text, self.ngram_size), repeated_steps(chain.steps))
            rewards.append(self.max_penalty * max(0.0, worst - self.free) / (1 - self.free) + 0.0)
        return rewards


def repetition_reward(completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any) -> list[float]:
    """A penalty in [-1, 0] for a completion that repeats itself.

        -max(0, r - 0.5) / 0.5,   r = max(rep-10 of the worst window of 1,000 characters, fraction of repeated steps)

    rep-n is 1 - distinct / all n-grams (Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training",
    section 3), here of characters, so that it needs neither a tokenizer nor word boundaries. In windows, a long text
    is not worse than a short one. The largest value among real traces of R1, Marco-o1 and GSM8K is 0.5, so that
    ordinary chains lose nothing.

    Args:
        completions: Strings, or lists of messages.
        prompts: Strings, or lists of messages.
        columns: Ignored.
    """
    return RepetitionReward()(completions, prompts, **columns)


def get_repetition_reward(free: float = 0.5, ngram_size: int = 10, max_penalty: float = -1.0) -> RepetitionReward:
    """`repetition_reward` with settings.

    Args:
        free: Repetition that costs nothing, in [0, 1).
        ngram_size: Length of the n-grams in characters.
        max_penalty: The value of a completion that is all repetition; not positive.
    """
    return RepetitionReward(free, ngram_size, max_penalty)
