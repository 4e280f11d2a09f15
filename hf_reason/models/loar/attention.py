"""The attention of a routed model, in transformers' attention interface: working groups only, windows in blocks."""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .cache import gather_groups, scatter_groups
from .heads import HeadChoice, packed_attention, visible

NAME = "loar"


def routed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """SDPA over the groups or the heads that the module's router chose.

    Where a head does not work, its output is 0: exactly what multiplying it by a gate of 0 gives.

    Args:
        module: The attention module; `module.loar` holds the choice of this pass.
        query: `(batch, heads, queries, head_dim)`, or the working heads only.
        key: `(batch, groups, keys, head_dim)`, or the working groups only.
        value: As `key`.
        attention_mask: As `sdpa_mask` makes it. A window layer makes its own from the window and `route.present`.
        dropout: Of the attention weights.
        scaling: Of the scores.

    Returns:
        `(batch, queries, heads, head_dim)`, and no weights.
    """
    route, size = module.loar, module.num_key_value_groups
    if route.groups is not None:
        if not route.sliced:
            chosen = (route.groups, size) if route.heads is None else (route.heads.heads, 1)
            query = gather_groups(query, *chosen)
        if key.shape[1] != route.groups.shape[1]:
            key, value = gather_groups(key, route.groups), gather_groups(value, route.groups)
    present = None if route.present is None else route.present[:, -key.shape[2] :]
    if route.heads is not None:
        output = heads_attention(
            query, key, value, attention_mask, route.heads, route.window, present, dropout, scaling
        )
    elif route.window is not None:
        output = window_attention(query, key, value, present, route.window, size, dropout, scaling)
    else:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if route.gates is not None:
        each = output.shape[2] // route.count
        output = output * route.gates.repeat_interleave(each, dim=1)[:, None, :, None].to(output)
    elif route.heads is not None and not route.sliced:
        output = scatter_groups(output, route.heads.heads, route.count, 1)
    elif route.groups is not None and not route.sliced:
        output = scatter_groups(output, route.groups, route.count, size)
    return output, None


def heads_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    choice: HeadChoice,
    window: int | None,
    present: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Causal attention of the working heads, each with the keys of its group.

    Args:
        query: `(batch, k, queries, head_dim)`.
        key: `(batch, g, keys, head_dim)`, of the groups that the heads read.
        value: As `key`.
        mask: As `sdpa_mask` makes it; not used with a window.
        choice: The heads.
        window: Tokens that a query sees; `None`: all before it.
        present: `(batch, keys)` bool: where there is a token; for a window.
        dropout: Of the attention weights.
        scaling: Of the scores.

    Returns:
        `(batch, queries, k, head_dim)`.
    """
    if query.shape[2] == 1:
        if window is not None:
            key, value = key[:, :, -window:], value[:, :, -window:]
            mask = visible(None if present is None else present[:, -window:])
        return packed_attention(query, key, value, mask, choice, dropout, scaling)
    key, value = gather_groups(key, choice.slots), gather_groups(value, choice.slots)
    if window is not None:
        return window_attention(query, key, value, present, window, 1, dropout, scaling)
    output = scaled_dot_product_attention(query, key, value, mask, dropout, mask is None, scale=scaling)
    return output.transpose(1, 2).contiguous()


def window_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    present: torch.Tensor | None,
    window: int,
    size: int,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Causal attention over the last `window` tokens, in blocks: `1.5 x window` scores a query, not one a token.

    Args:
        query: `(batch, groups x size, queries, head_dim)`; the queries are the last of the keys.
        key: `(batch, groups, keys, head_dim)`.
        value: As `key`.
        present: `(batch, keys)` bool: where there is a token; `None`: everywhere.
        window: Tokens that a query sees, itself included.
        size: Query heads of a group.
        dropout: Of the attention weights.
        scaling: Of the scores.

    Returns:
        `(batch, queries, groups x size, head_dim)`.
    """
    count = query.shape[2]
    past = min(key.shape[2] - count, window - 1)
    first = key.shape[2] - count - past
    key, value = key[:, :, first:], value[:, :, first:]
    present = None if present is None else present[:, first:].bool()
    if size > 1:
        key, value = (states.repeat_interleave(size, dim=1) for states in (key, value))
    # half a window: smaller blocks are more calls, larger ones more scores that the window leaves out
    block = count if past + count <= window else -(-window // 2)
    found = []
    for start in range(0, count, block):
        stop = min(start + block, count)
        left, right = max(past + start - window + 1, 0), past + stop
        at = torch.arange(left, right, device=query.device)
        own = torch.arange(past + start, right, device=query.device)[:, None]
        causal = present is None and left == past + start == 0 and stop > 1
        near = (at <= own) & (at > own - window)
        allowed = None if causal or stop - start == 1 else near
        if present is not None:
            # a padding query looks at itself: without any key it would give NaN, and nobody reads it
            allowed = near & present[:, None, None, left:right] | (at == own)
        parts = (query[:, :, start:stop], key[:, :, left:right], value[:, :, left:right])
        found.append(scaled_dot_product_attention(*parts, allowed, dropout, causal, scale=scaling))
    return (found[0] if len(found) == 1 else torch.cat(found, dim=2)).transpose(1, 2).contiguous()


def routed_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    attention_mask: torch.Tensor | None = None,
    local_size: int | None = None,
    **kwargs: Any,
) -> torch.Tensor | None:
    """SDPA's mask; none for the model's own windows, which the attention makes itself."""
    if local_size is not None:
        return None
    return sdpa_mask(batch_size, q_length, kv_length, q_offset, kv_offset, attention_mask=attention_mask, **kwargs)


AttentionInterface.register(NAME, routed_attention)
AttentionMaskInterface.register(NAME, routed_mask)
