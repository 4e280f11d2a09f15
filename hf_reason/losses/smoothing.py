"""Label smoothing for a fused head: no tensor of `[positions, vocabulary]` is kept."""

import torch
from torch.utils.checkpoint import checkpoint

from .head import LMHead

# Elements of one tile of capped logits; 64 MB in float32.
_TILE = 2**24


def smoothing_term(hidden_states: torch.Tensor, head: LMHead, labels: torch.Tensor) -> torch.Tensor:
    """Label logit minus mean logit of each position.

    The smoothed loss of Szegedy et al. (2016), as `transformers.LabelSmoother` has it, is
    `(1 - e) * nll + e * mean_v(-log p_v)`. With logits `z`, `nll = lse(z) - z_y` and
    `mean_v(-log p_v) = lse(z) - mean(z)`, so it equals `nll + e * (z_y - mean(z))`; and
    `z_y - mean(z) = h . (w_y - mean_v w_v)`, which needs the label's row of the head only. A softcap (Gemma) is not
    linear: there the logits are built a block of the vocabulary at a time, and again in the backward pass.

    Args:
        hidden_states: `(positions, width)`.
        head: The model's, with its scale and softcap.
        labels: `(positions,)` ids, none of them -100.

    Returns:
        `(positions,)`, differentiable in the hidden states, the weight and the bias.
    """
    weight, bias = head.weight, head.bias
    if head.softcap is not None:
        return _capped(hidden_states, head, labels)
    term = (hidden_states.float() * (weight[labels] - weight.mean(dim=0)).float()).sum(dim=-1)
    if bias is not None:
        term = term + (bias[labels] - bias.mean()).float()
    return term if head.logit_scale == 1 else head.logit_scale * term


def _capped(hidden_states: torch.Tensor, head: LMHead, labels: torch.Tensor) -> torch.Tensor:
    """`z_y - mean(z)` of logits under a softcap."""
    weight, bias, scale, cap = head
    assert cap is not None
    states = hidden_states.float()

    def total(states: torch.Tensor, rows: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
        """Sum of the capped logits of some rows of the head, `(positions,)`."""
        with torch.autocast(states.device.type, enabled=False):
            logits = torch.nn.functional.linear(states, rows.float(), None if shift is None else shift.float())
            return (cap * torch.tanh(scale * logits / cap)).sum(dim=-1)

    size = max(1, _TILE // max(1, len(states)))
    blocks = weight.split(size)  # not slices, whose gradients would each be as large as the head
    shifts = [None] * len(blocks) if bias is None else bias.split(size)
    sums = torch.zeros_like(states[:, 0])
    for rows, shift in zip(blocks, shifts, strict=True):
        sums = sums + checkpoint(total, states, rows, shift, use_reentrant=False, preserve_rng_state=False)
    label = (states * weight[labels].float()).sum(dim=-1)
    if bias is not None:
        label = label + bias[labels].float()
    return cap * torch.tanh(scale * label / cap) - sums / len(weight)
