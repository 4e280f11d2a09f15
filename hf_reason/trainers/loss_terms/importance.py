"""Importance weights of domains that are drawn more or less often than the loss is to count them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from hf_reason.text.spans import DOMAIN_IDS
from hf_reason.trainers.sampling.domains import DomainPlan

from .base import LossTerm, Moment, TokenLoss

if TYPE_CHECKING:
    from hf_reason.trainers.cot_sft_config import CoTSFTConfig


class Importance(LossTerm):
    """A factor for each domain's examples, in training only. No divisor contains it (see `plan_domains`).

    Attributes:
        plan: What becomes of each domain; known once the training set is prepared.
    """

    def __init__(self, args: "CoTSFTConfig"):
        self.is_wanted = args.domain_target != "sampled"
        self.plan: DomainPlan | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (DOMAIN_IDS,) if self.is_wanted else ()

    def of(self, batch: Mapping[str, torch.Tensor], moment: Moment) -> torch.Tensor | None:
        """Importance weights of the targets, `(rows, time - 1)`; `None`: all are 1."""
        ids = batch.get(DOMAIN_IDS)
        if self.plan is None or ids is None or not self.is_wanted or not moment.training:
            return None
        table = torch.zeros(max(self.plan.weights) + 1, device=ids.device)
        for key, weight in self.plan.weights.items():
            table[key] = weight
        return table[ids[:, 1:].clamp(max=len(table) - 1)]

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        weights = self.of(batch, moment)
        if weights is not None and loss.weights is not None:
            loss.weights = loss.weights * weights
