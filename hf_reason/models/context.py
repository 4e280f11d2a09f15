"""How long a text a model can read: the positions of its context."""

import re
from typing import Any

# Where configs keep the number.
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len")
# Tables of positions by name, learned or computed (`wpe.weight`, `embed_positions`, `pos_encoding`); those that end in
# "weights" grow when they must (XGLM).
_TABLE = re.compile(r"(wpe|pos_encoding|position_embeddings?|embed_positions|positions_embed)(\.weight)?$")
# OPT and BioGPT keep two rows in front.
_ROWS_IN_FRONT = 4
# MPT computes ALiBi's distances for its length; other models compute them for the text's.
_FIXED_DISTANCES = "mpt"


def position_limit(model: Any) -> tuple[int | None, bool]:
    """Positions of a causal language model, of its text part if it has others, and whether nothing lies beyond them.

    Positions that are looked up in a table end with it. Rotary ones can be computed for any length, though the model
    was not trained on those beyond the number that its config says (scaling included). ALiBi, Mamba and the like have
    no number: `(None, False)`.
    """
    whole: Any = getattr(model, "config", None)
    config = whole.get_text_config() if hasattr(whole, "get_text_config") else whole
    limit = next((n for name in _LIMITS if isinstance(n := getattr(config, name, None), int) and n > 0), None)
    if limit is None or getattr(config, "alibi", False):
        return None, False
    if rope := getattr(config, "rope_parameters", None):
        return max(limit, *(_stretched(part, limit) for part in (rope, *rope.values()))), False
    if config.model_type == _FIXED_DISTANCES or _has_table(model, limit):
        return limit, True
    return None, False


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
