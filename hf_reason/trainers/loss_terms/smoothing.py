"""Label smoothing from the hidden states, without a second forward pass."""

from collections.abc import Mapping

import torch

from hf_reason.losses import smoothing_term
from hf_reason.models.lm_head import lm_head

from .base import LossTerm, Moment, Positions, TokenLoss


class LabelSmoothing(LossTerm):
    """`label_smoothing_factor`. Where a choice is made among labels, nothing is smoothed.

    Args:
        factor: From 0, which switches it off, to below 1.
    """

    def __init__(self, factor: float):
        self.factor = factor

    def check(self, model: object, *, is_zero3: bool) -> None:
        if self.factor > 0 and is_zero3:
            raise ValueError("label_smoothing_factor needs the whole LM head: use ZeRO-2, FSDP or DDP.")

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        loss.smoothing = self.factor

    def score(self, log_probs: torch.Tensor, positions: Positions, loss: TokenLoss) -> torch.Tensor:
        if loss.smoothing == 0:
            return log_probs
        mask = positions.mask
        if loss.choice_ids is not None:
            mask = mask & (loss.choice_ids == 0)
        with lm_head(positions.model) as head:
            term = smoothing_term(positions.states[mask], head, positions.targets[mask])
        spread = torch.zeros(mask.shape, dtype=term.dtype, device=mask.device).masked_scatter(mask, term)
        return log_probs - loss.smoothing * spread
