"""Who may see whom: the masks of the three stacks, from the streams of a layout."""

from collections.abc import Callable

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, and_masks, or_masks

from .layout_step_reasoner import Stream

MaskFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def same_document(queries: Stream, keys: Stream) -> MaskFunction:
    """Entries of one packed example see each other; padding sees padding, so that no row of the mask is empty."""
    return lambda b, h, q, k: queries.document[b, q] == keys.document[b, k]


def not_after(queries: Stream, keys: Stream) -> MaskFunction:
    """The reasoner's rule: keys known no later than the query's own piece."""
    return lambda b, h, q, k: keys.rank[b, k] <= queries.rank[b, q]


def strictly_before(queries: Stream, keys: Stream, among: int) -> MaskFunction:
    """The decoder's rule for the first `among` keys, the memory: known when the query asks for the next token."""
    return lambda b, h, q, k: (k < among) & (keys.rank[b, k] < queries.rank[b, q])


def causal_own(queries: Stream, keys: Stream, among: int, window: int = 0) -> MaskFunction:
    """The decoder's rule for the other keys, its own: the token itself and the ones before, `window` in all."""

    def rule(b, h, q, k):
        back = queries.index[b, q] - keys.index[b, k]
        return (k >= among) & (back >= 0) & (back < (window or back + 1))

    return rule


def within(queries: Stream, keys: Stream, window: int) -> MaskFunction:
    """Sliding window in both directions: fewer than `window` positions apart."""
    return lambda b, h, q, k: (queries.position[b, q] - keys.position[b, k]).abs() < window


def up_to(limits: torch.Tensor) -> MaskFunction:
    """With a cache: each query sees the first `limits` [batch, queries] columns of its row."""
    return lambda b, h, q, k: k < limits[b, q]


def encoder_rule(prompt: Stream, window: int | None) -> MaskFunction:
    seen = same_document(prompt, prompt)
    return seen if window is None else and_masks(seen, within(prompt, prompt, window))


def reasoner_rule(queries: Stream, keys: Stream) -> MaskFunction:
    return and_masks(same_document(queries, keys), not_after(queries, keys))


def decoder_rule(queries: Stream, keys: Stream, memory: int, window: int = 0) -> MaskFunction:
    visible = or_masks(strictly_before(queries, keys, memory), causal_own(queries, keys, memory, window))
    return and_masks(same_document(queries, keys), visible)


def make_mask(config, rule: MaskFunction, like: torch.Tensor, queries: int, keys: int):
    """A mask in the form that the attention expects (boolean for SDPA, additive for eager, blocks for flex)."""
    return ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation](
        batch_size=like.shape[0],
        q_length=queries,
        kv_length=keys,
        mask_function=rule,
        allow_is_causal_skip=False,
        dtype=like.dtype,
        config=config,
        device=like.device,
    )
