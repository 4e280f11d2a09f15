"""The reward for the end: is the answer right?"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hf_reason.answers.choices import is_choice
from hf_reason.answers.final import final_part
from hf_reason.answers.forms import plain_numbers, pure_number

from .bounded import answers_match_in_time
from .completion import Chain, read_chains, references

# 23、25、24 or 23, 24 or 25: candidates where one number is asked for. 1,200 and 3/4 are one number each.
_CANDIDATE = r"[$￥¥]?-?\d+(?:[.,/]\d+)*\s?(?:%|[\u4e00-\u9fff]{1,2}|[A-Za-z]{1,8})??"
_LISTED = re.compile(
    rf"{_CANDIDATE}\s*(?:[、;；|]|[,，]\s|，|[,，]?\s*(?:或者?是?|还是|和|与|\bor\b|\band\b))\s*(?:也?可能是)?{_CANDIDATE}\s*[.。!！]?$"
)


class AnswerReward:
    """See `get_answer_reward`. A class, so that it can be sent to another process."""

    __name__ = "answer_reward"

    def __init__(self, thinking: bool | None = None):
        self.thinking = thinking

    def __call__(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[float | None]:
        wanted = references(columns, len(completions), self.__name__)
        chains = read_chains(completions, prompts, self.thinking)
        return [reward_of(chain, reference) for chain, reference in zip(chains, wanted, strict=True)]


def reward_of(chain: Chain, reference: str) -> float | None:
    """1 or 0 for one completion, or `None`."""
    if not reference:
        return None
    if not chain.answer.strip():
        return 0.0
    exact = is_exact(reference)
    if exact and _LISTED.search(plain_numbers(final_part(chain.answer)[0])):
        return 0.0  # several candidates are no answer
    verdict = answers_match_in_time(chain.answer, reference)
    if verdict is None:
        return 0.0 if exact else None
    return float(verdict)


@lru_cache(maxsize=2**12)
def is_exact(reference: str) -> bool:
    """Whether a reference is one number or an option, against which every answer is right or wrong."""
    return pure_number(reference) is not None or bool(is_choice(reference))


def answer_reward(
    completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
) -> list[float | None]:
    """1 for an answer that states the same as the reference, 0 for any other, `None` where nobody can tell.

    What is judged is the part after the thought, by `hf_reason.answers.verify.answers_match`: numbers in all writings,
    units, lists, options, formulas. A thought that was not closed has no answer: 0. An answer of which no single
    result can be read is wrong where the reference is a number or an option; where the reference is free text the
    reward is `None`, and TRL leaves the function out for that row.

    Args:
        completions: Strings, or lists of messages.
        prompts: Strings, or lists of messages. One that ends in `<think>` has opened the thought of its completion.
        columns: The data set's columns; `answer` (or `solution`) has the references. Others are ignored.

    Returns:
        A reward for each completion.

    Raises:
        ValueError: no column of references, or one of another length.
    """
    return AnswerReward()(completions, prompts, **columns)


def get_answer_reward(thinking: bool | None = None) -> AnswerReward:
    """`answer_reward` for models whose chat template opens the thought in conversational data.

    Args:
        thinking: `True`: a completion without `</think>` was cut inside its thought and has no answer. `False`: the
            model writes no thoughts. Default: as prompt and completion say.
    """
    return AnswerReward(thinking)
