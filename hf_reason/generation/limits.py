"""Whether a model can read and continue prompts: the rows of its embedding, the positions of its context."""

import logging
from collections.abc import Sequence
from typing import Any

from hf_reason.models.context import position_limit

_log = logging.getLogger(__name__)


def embedding_rows(model: Any) -> int | None:
    """Ids that the model knows; `None` for an object that does not say."""
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    rows = getattr(embedding, "num_embeddings", None)  # the weight of a sharded embedding is a piece of it
    if rows is None:
        rows = getattr(getattr(embedding, "weight", None), "shape", [None])[0]
    return rows or None


def check_prompts(model: Any, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    """Refuse prompts that the model cannot read or continue.

    Args:
        model: Reads them.
        prompts: Token ids, one list a prompt.
        max_new_tokens: That are asked for.

    Raises:
        ValueError: for an empty prompt, an id without an embedding, or a context that is too short.
    """
    empty = [number for number, prompt in enumerate(prompts) if not len(prompt)]
    if empty:
        raise ValueError(f"prompts[{empty[0]}] is empty: there is no token to continue.")
    rows, largest = embedding_rows(model), max((max(prompt) for prompt in prompts), default=0)
    if rows is not None and largest >= rows:
        raise ValueError(
            f"The tokenizer wrote the id {largest}, but the model has {rows} embeddings. Use the model's own "
            "tokenizer, or call model.resize_token_embeddings(len(tokenizer)) and train the new ones."
        )
    limit, hard = position_limit(model)
    longest = max(map(len, prompts), default=0)
    if limit is not None and hard and longest + max_new_tokens > limit:
        room = limit - longest
        fix = f"Ask for at most {room} new tokens" if room > 0 else "Shorten the prompts"
        raise ValueError(
            f"The model's context has {limit} positions: the longest prompt has {longest} tokens and {max_new_tokens} "
            f"new ones were asked for. {fix}, or use a model with a longer context."
        )


def warn_beyond_context(model: Any, lengths: Sequence[int]) -> None:
    """Say how many sequences ran past the positions that a model was made for.

    Args:
        model: That wrote them.
        lengths: Tokens of prompt and output together, one number a sequence.
    """
    limit, _ = position_limit(model)
    beyond = [length for length in lengths if limit is not None and length > limit]
    if beyond:
        _log.warning(
            "%d of %d outputs ran past the %d positions of the model's context (the longest to %d), which it was not "
            "trained on. Lower the budget, or scale its positions (hf_reason.models.set_rope_scaling).",
            len(beyond),
            len(lengths),
            limit,
            max(beyond),
        )
