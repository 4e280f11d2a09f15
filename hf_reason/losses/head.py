"""The LM head of a model as values, and its logits."""

from typing import NamedTuple

import torch


class LMHead(NamedTuple):
    """What turns hidden states into logits: `softcap * tanh(logit_scale * (h @ weight.T + bias) / softcap)`.

    `weight` is `(vocabulary, width)`, `bias` `(vocabulary,)` or `None`; without `softcap` there is no tanh.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    logit_scale: float = 1.0
    softcap: float | None = None


def head_logits(hidden: torch.Tensor, head: LMHead) -> torch.Tensor:
    """Logits `(positions, vocabulary)` of states `(positions, width)`, in float32, or float64 for such states.

    The product runs in the states' precision, or in autocast's.
    """
    real = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    dtype = compute_dtype(hidden)
    logits = (hidden.to(dtype) @ head.weight.to(dtype).t()).to(real)
    if head.bias is not None:
        logits += head.bias.to(real)
    if head.logit_scale != 1.0:
        logits *= head.logit_scale
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


def compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    """The precision of a product with these states: theirs, or autocast's."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
