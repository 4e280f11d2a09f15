"""The attention of a routed model, in transformers' attention interface: working groups only, windows in blocks."""

from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .cache import gather_groups, scatter_groups

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
    """SDPA over the groups that the module's router chose.

    Where a group does not work, its heads' output is 0: exactly what multiplying it by a gate of 0 gives.

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
        working = route.groups.shape[1]
        if query.shape[1] != working * size:
            query = gather_groups(query, route.groups, size)
        if key.shape[1] != working:
            key, value = gather_groups(key, route.groups), gather_groups(value, route.groups)
    if route.window is not None:
        present = None if route.present is None else route.present[:, -key.shape[2] :]
        output = window_attention(query, key, value, present, route.window, size, dropout, scaling)
    else:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if route.gates is not None:
        output = output * route.gates.repeat_interleave(size, dim=1)[:, None, :, None].to(output)
    elif route.groups is not None and not route.sliced:
        output = scatter_groups(output, route.groups, route.count, size)
    return output, None


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
    batch, heads, count, width = query.shape
    past = min(key.shape[2] - count, window - 1)
    first = key.shape[2] - count - past
    key, value = key[:, :, first:], value[:, :, first:]
    present = None if present is None else present[:, first:].bool()
    if past + count <= window:
        return _short_attention(query, key, value, present, size, dropout, scaling)
    # half a window was the fastest on a CPU: smaller blocks copy more, larger ones multiply more
    block = min(-(-window // 2), count)
    blocks = -(-count // block)
    # each block of queries looks at its own keys and the window - 1 before them
    back, behind = window - 1 - past, blocks * block - count
    query = pad(query, (0, 0, 0, behind))
    key, value = (pad(states, (0, 0, back, behind)) for states in (key, value))
    span = block + window - 1
    at = torch.arange(span, device=query.device) - torch.arange(block, device=query.device)[:, None]
    allowed = ((at >= 0) & (at < window))[None].expand(blocks, -1, -1)
    real = torch.ones(1, key.shape[2] - back - behind, dtype=torch.bool, device=query.device)
    real = pad(real if present is None else present, (back, behind))
    allowed = allowed[None] & real.unfold(1, span, block)[:, :, None]  # (batch or 1, blocks, block, span)
    # a query without any key (padding) would give NaN; it looks at itself, and nobody reads it
    own = (at == window - 1)[None, None]
    allowed = allowed | own
    if allowed.shape[0] > 1:
        allowed = allowed.repeat_interleave(heads, dim=0)

    # rows and heads in one dimension, blocks in the place of heads: four dimensions, for which the fused kernels are
    def in_blocks(states: torch.Tensor) -> torch.Tensor:
        windows = states.unfold(2, span, block).transpose(-1, -2)  # (batch, groups, blocks, span, width)
        return windows.repeat_interleave(size, dim=1).flatten(0, 1)

    output = scaled_dot_product_attention(
        query.reshape(batch * heads, blocks, block, width), in_blocks(key), in_blocks(value),
        attn_mask=allowed, dropout_p=dropout, scale=scaling,
    )  # fmt: skip
    return output.reshape(batch, heads, -1, width)[:, :, :count].transpose(1, 2).contiguous()


def _short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, present: torch.Tensor | None, size: int,
    dropout: float, scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """`window_attention` where the window leaves nothing out."""
    count, total = query.shape[2], key.shape[2]
    allowed: torch.Tensor | None = None
    causal = present is None and count == total > 1
    if not causal and (count > 1 or present is not None):
        at = torch.arange(total, device=query.device)
        own = torch.arange(total - count, total, device=query.device)[:, None]
        allowed = at <= own
        if present is not None:
            # a padding query looks at itself: without any key it would give NaN
            allowed = allowed & present[:, None, None] | (at == own)
    if size > 1:
        key, value = (states.repeat_interleave(size, dim=1) for states in (key, value))
    output = scaled_dot_product_attention(query, key, value, allowed, dropout, causal, scale=scaling)
    return output.transpose(1, 2).contiguous()


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
