"""How many positions a model has, and what becomes of examples that are longer."""

import logging
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_reason.text.spans import IGNORE_INDEX
from hf_reason.trainers.sampling.order import sequence_lengths, token_chunks

logger = logging.getLogger(__name__)

# Where configs keep the number.
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len")
# Tables of positions by name, learned or computed (`wpe.weight`, `embed_positions`, `pos_encoding`); those that end in
# "weights" grow when they must (XGLM).
_TABLE = re.compile(r"(wpe|pos_encoding|position_embeddings?|embed_positions|positions_embed)(\.weight)?$")
# OPT and BioGPT keep two rows in front.
_ROWS_IN_FRONT = 4
# MPT computes ALiBi's distances for its length; other models compute them for the text's.
_FIXED_DISTANCES = "mpt"


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
    """The positions of a causal language model, of its text part if it has others."""
    config = model.config.get_text_config()
    limit = next((n for name in _LIMITS if isinstance(n := getattr(config, name, None), int) and n > 0), None)
    if limit is None or getattr(config, "alibi", False):
        return Positions()
    if rope := getattr(config, "rope_parameters", None):
        return Positions(max(limit, *(_stretched(part, limit) for part in (rope, *rope.values()))))
    is_hard = config.model_type == _FIXED_DISTANCES or _has_table(model, limit)
    return Positions(limit, is_hard=True) if is_hard else Positions()


def _stretched(rope: Any, limit: int) -> int:
    """Positions after scaling (YaRN, linear, ...): `factor` times the original ones."""
    if not isinstance(rope, dict) or not isinstance(factor := rope.get("factor"), int | float):
        return limit
    return int((rope.get("original_max_position_embeddings") or limit) * factor)


def _has_table(model: Any, limit: int) -> bool:
    """Whether the model looks its positions up in a table of that many rows."""
    return any(
        _TABLE.search(name)
        and any(limit <= size <= limit + _ROWS_IN_FRONT for size in getattr(t, "ds_shape", t.shape))
        for name, t in (*model.named_parameters(), *model.named_buffers())
    )
