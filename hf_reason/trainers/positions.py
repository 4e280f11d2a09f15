"""How many positions a model has, and what becomes of examples that are longer."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_reason.models.context import position_limit
from hf_reason.text.spans import IGNORE_INDEX
from hf_reason.trainers.sampling.order import sequence_lengths, token_chunks

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Positions:
    """The positions of a model.

    Attributes:
        limit: How many it was made for; `None`: any number.
        is_hard: Whether a longer example fails (a table of positions), and is not only read at positions that the
            model has not learned (rotary ones).
    """

    limit: int | None = None
    is_hard: bool = False

    def cap(self, max_length: int | None) -> int | None:
        """`max_length`, lowered to what the model can read, which is said."""
        if self.limit is None or not self.is_hard or (max_length is not None and max_length <= self.limit):
            return max_length
        logger.warning("The model has %d positions, so max_length is %d here, not %s.", *(self.limit,) * 2, max_length)
        return self.limit

    def check(self, dataset: Any, name: str, what: str = "model") -> None:
        """Warn of tokenised examples that reach beyond rotary positions; a streamed data set is not looked at.

        Args:
            dataset: With a column `input_ids`, packed or not.
            name: Its name, for messages.
            what: The model's.

        Raises:
            ValueError: if an example is longer than a hard limit.
        """
        if self.limit is None or "input_ids" not in (getattr(dataset, "column_names", None) or ()):
            return
        if not hasattr(dataset, "with_format") or hasattr(dataset, "_ex_iterable"):
            return
        lengths = sequence_lengths(dataset)
        over = [length for length in lengths if length > self.limit]
        if not over:
            return
        found = (
            f"{name} data set: {len(over)} of {len(lengths)} examples are longer than the {what}'s {self.limit} "
            f"positions (longest: {max(over)} tokens)"
        )
        if self.is_hard:
            raise ValueError(f"{found}, and it cannot read them. Set max_length={self.limit}.")
        logger.warning(
            "%s: beyond them it was not trained. Set max_length=%d, or stretch its positions (rope_scaling).",
            found,
            self.limit,
        )

    def check_completions(self, dataset: Any, longest: int) -> None:
        """Refuse completions that would reach beyond a hard limit.

        Args:
            dataset: Tokenised, its prompts without labels; a streamed one is not looked at.
            longest: Tokens of the longest completion.

        Raises:
            ValueError: if the longest prompt leaves too few positions.
        """
        if not self.is_hard or self.limit is None or hasattr(dataset, "_ex_iterable"):
            return
        prompts = [
            int((row != IGNORE_INDEX).argmax())
            for starts, (labels,) in token_chunks(dataset, "labels")
            for row in np.split(labels, starts[1:])
        ]
        if (prompt := max(prompts)) + longest > self.limit:
            raise ValueError(
                f"The model has {self.limit} positions: the longest prompt ({prompt} tokens) leaves fewer than "
                f"max_completion_length={longest} for a completion. Set max_completion_length="
                f"{max(self.limit - prompt, 1)}, or a shorter max_length."
            )


def positions_of(model: Any) -> Positions:
    """The positions of a causal language model (`position_limit`)."""
    return Positions(*position_limit(model))
