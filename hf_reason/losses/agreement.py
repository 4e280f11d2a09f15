"""How far a student's distributions are from a teacher's in ways that a loss does not show: for logs, no gradient."""

from typing import NamedTuple

import torch

from .events import LiveTargets, TopKTargets
from .head import LMHead, head_logits

_TILE = 2**24  # logits at a time


class Agreement(NamedTuple):
    """Of each position: `overlap`, the fraction of the teacher's likeliest tokens that are among as many likeliest of
    the student; `entropy` of the student's distribution, in nats. Both `(positions,)` float32."""

    overlap: torch.Tensor
    entropy: torch.Tensor


@torch.no_grad()
def agreement(
    hidden_states: torch.Tensor,
    head: LMHead,
    targets: LiveTargets | TopKTargets,
    *,
    top_k: int,
    temperature: float = 1.0,
    vocab_size: int | None = None,
) -> Agreement:
    """Overlap and entropy, without a `[positions, vocabulary]` tensor.

    Args:
        hidden_states: `(positions, width)`, the student's.
        head: The student's head.
        targets: The teacher's at the same positions. Stored ones are in order, the likeliest token first.
        top_k: Tokens that are compared; fewer where the teacher has fewer.
        temperature: Divides the logits.
        vocab_size: Only ids below it; default: the smaller of the two heads.
    """
    live = isinstance(targets, LiveTargets)
    rows = [head.weight.shape[0], *([targets.head.weight.shape[0]] if isinstance(targets, LiveTargets) else [])]
    size = vocab_size or min(rows)
    k = min(top_k, size if live else targets[0].shape[1])
    found: list[Agreement] = []
    for place in range(0, hidden_states.shape[0], chunk := max(1, _TILE // max(rows))):
        part = slice(place, place + chunk)
        student = head_logits(hidden_states[part], head)[:, :size] / temperature
        if isinstance(targets, LiveTargets):
            theirs = head_logits(targets.hidden_states[part], targets.head)[:, :size].topk(k, dim=1).indices
        else:
            theirs = targets.ids[part, :k].long()
        ours = student.topk(k, dim=1).indices
        common = (ours.unsqueeze(2) == theirs.to(ours.device).unsqueeze(1)).any(dim=2)
        log_probs = student.log_softmax(dim=1)
        entropy = -(log_probs.exp() * log_probs.clamp(min=torch.finfo(log_probs.dtype).min)).sum(dim=1)
        found.append(Agreement(common.float().mean(dim=1), entropy.float()))
    if not found:
        nothing = hidden_states.new_zeros(0, dtype=torch.float32)
        return Agreement(nothing, nothing)
    return Agreement(*(torch.cat(column) for column in zip(*found, strict=True)))
