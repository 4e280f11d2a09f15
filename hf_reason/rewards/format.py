"""The reward for the form: a thought that is opened and closed once, numbered steps, an answer."""

import re
from collections.abc import Sequence
from typing import Any

from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, split_completion

from .completion import Chain, read_chains

_LABEL = re.compile(r"^步[骤驟](\d+)[:：](.*(?:\n(?!步[骤驟]\d+[:：]).*)*)", re.MULTILINE)
_SAYS_SOMETHING = re.compile(r"\w")


class FormatReward:
    """See `get_format_reward`."""

    __name__ = "format_reward"

    def __init__(self, numbered: bool = True, min_steps: int = 1, thinking: bool | None = None):
        if min_steps < 1:
            raise ValueError(f"min_steps must be at least 1, got {min_steps}.")
        self.numbered, self.min_steps, self.thinking = numbered, min_steps, thinking

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float]:
        return [self.reward_of(chain) for chain in read_chains(completions, prompts, self.thinking)]

    def reward_of(self, chain: Chain) -> float:
        """The fraction of the three parts that are as they should be."""
        head, tag, answer = split_completion(chain.text)
        if not chain.thinks:
            return float(OPEN_TAG not in chain.text and CLOSE_TAG not in chain.text and _says_something(chain.text))
        opened = chain.text.count(OPEN_TAG) <= 1 and (OPEN_TAG not in chain.text or head.lstrip().startswith(OPEN_TAG))
        thought = head.lstrip().removeprefix(OPEN_TAG)
        framed = bool(tag) and chain.text.count(CLOSE_TAG) == 1 and opened and any(map(_says_something, chain.steps))
        answered = framed and _says_something(answer) and not _LABEL.search(answer)
        return (framed + (framed and self.stepped(thought)) + answered) / 3

    def stepped(self, thought: str) -> bool:
        """Whether the thought has its steps, each of them with something in it."""
        if not self.numbered:
            return True
        found = _LABEL.findall(thought)
        in_order = [int(number) for number, _ in found] == list(range(1, len(found) + 1))
        first = thought.lstrip().startswith(("步骤1", "步驟1"))
        return first and in_order and len(found) >= self.min_steps and all(_says_something(text) for _, text in found)


def _says_something(text: str) -> bool:
    return _SAYS_SOMETHING.search(text) is not None


def format_reward(completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any) -> list[float]:
    """Whether a completion has the form that `hf_reason.text.render` writes: the fraction of three parts that it has.

    The thought is opened (by the prompt or the completion) and closed exactly once and is not empty; its steps are
    labelled 步骤1, 步骤2, ... in order and none is empty; an answer follows, without labels. Without the first part
    the others do not count. After a prompt that has closed the thought (a template without one) the reward is 1 for an
    answer without tags, and 0 for any other.

    Args:
        completions: Strings, or lists of messages.
        prompts: Strings, or lists of messages.
        columns: Ignored.
    """
    return FormatReward()(completions, prompts, **columns)


def get_format_reward(numbered: bool = True, min_steps: int = 1, thinking: bool | None = None) -> FormatReward:
    """`format_reward` with settings.

    Args:
        numbered: Whether the steps must be labelled; `False` for models that think in prose.
        min_steps: Minimum number of labelled steps, at least 1.
        thinking: `False`: the model writes no thoughts. Default: a prompt that has closed the thought expects none.
    """
    return FormatReward(numbered, min_steps, thinking)
