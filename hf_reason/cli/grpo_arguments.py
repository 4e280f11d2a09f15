"""Which rewards `grpo` gives. Nothing heavy is imported here, so that `--help` is fast."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hf_reason._options import option

from .arguments import as_list

REWARDS = ("answer", "step", "format", "language", "length", "repetition")


@dataclass
class RewardArguments:
    """What a completion is rewarded for."""

    reward_funcs: list[str] | None = option(
        None, "answer, step, format, language, length, repetition, or module.function of your own. Default: answer."
    )
    length_buffer: int | None = option(
        None, "Reward 'length': tokens before max_completion_length that cost. Default: a fifth of it."
    )

    def __post_init__(self) -> None:
        self.reward_funcs = as_list(self.reward_funcs) or ["answer"]
        unknown = [name for name in self.reward_funcs if name not in REWARDS and "." not in name]
        if unknown:
            raise ValueError(
                f"reward_funcs: there is no reward {', '.join(unknown)}. There are {', '.join(REWARDS)}; a function "
                "of your own is named module.function."
            )
        if self.length_buffer is not None and "length" not in self.reward_funcs:
            raise ValueError("length_buffer belongs to the reward 'length'. Add it to reward_funcs, or leave it out.")

    def functions(self, max_completion_length: int, thinking: bool) -> list[Callable[..., Any]]:
        """The reward functions, in order.

        Args:
            max_completion_length: The trainer's.
            thinking: Whether a thought is asked for.

        Raises:
            ValueError: if one of the user's own cannot be imported.
        """
        return [self._function(name, max_completion_length, thinking) for name in self.reward_funcs or ()]

    def _function(self, name: str, longest: int, thinking: bool) -> Callable[..., Any]:
        from hf_reason import rewards

        if "." in name:
            return _imported(name)
        if name == "length":
            buffer = max(longest // 5, 1) if self.length_buffer is None else self.length_buffer
            return rewards.get_length_reward(longest, buffer)
        if name == "format" and not thinking:
            raise ValueError("The reward 'format' is for thoughts, and thinking=False asks for none. Leave it out.")
        return getattr(rewards, f"{name}_reward")  # type: ignore[no-any-return]


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"reward_funcs: {name} cannot be imported ({error}). Name a module that Python finds from here, and a "
            "function in it."
        ) from error
    if not callable(found):
        raise ValueError(f"reward_funcs: {name} is a {type(found).__name__}, not a function.")
    return found  # type: ignore[no-any-return]
