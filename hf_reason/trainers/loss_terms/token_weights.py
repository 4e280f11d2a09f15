"""Weights of thought, answer, steps and tasks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from hf_reason.losses import token_weights
from hf_reason.text.spans import IGNORE_INDEX, SPAN_COLUMNS, TASK_IDS

from .base import LossTerm, Moment, TokenLoss
from .tasks import TaskTable

if TYPE_CHECKING:
    from hf_reason.trainers.cot_sft_config import CoTSFTConfig


class TokenWeights(LossTerm):
    """Each target's loss times its weight, divided by the sum of the weights.

    Args:
        args: `thought_weight`, `answer_weight`, `step_weighting`; whether the loss is weighted at all.
        tasks: The tasks of the run, if there are any, whose weights are factors.
    """

    def __init__(self, args: "CoTSFTConfig", tasks: TaskTable | None):
        self.is_weighted, self.tasks = args.is_weighted, tasks
        self.thought_weight, self.answer_weight = args.thought_weight, args.answer_weight
        self.step_weighting = args.step_weighting

    @property
    def columns(self) -> tuple[str, ...]:
        return ((*SPAN_COLUMNS, TASK_IDS) if self.tasks is not None else SPAN_COLUMNS) if self.is_weighted else ()

    def of(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Weights of the targets, `(rows, time - 1)`; `None` where the loss is TRL's plain mean."""
        if not self.is_weighted or SPAN_COLUMNS[0] not in batch:
            return None
        weights = token_weights(
            batch["labels"],
            batch["segment_ids"],
            batch["step_ids"],
            thought_weight=self.thought_weight,
            answer_weight=self.answer_weight,
            step_weighting=self.step_weighting,
        )[:, 1:]
        if self.tasks is not None and TASK_IDS in batch:
            table = torch.tensor(self.tasks.weights, device=weights.device)
            weights = weights * table[batch[TASK_IDS][:, 1:]]
        return weights

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        weights = self.of(batch)
        if weights is None:
            return
        if loss.divisor is None:
            # TRL divides by the number of targets; make that the sum of weights
            targets = (batch["labels"][:, 1:] != IGNORE_INDEX).sum()
            loss.weights = weights * fraction(targets, weights.sum())
        else:
            # TRL clamps the divisor at 1; small weights may sum to less, so scale both sides.
            total = torch.as_tensor(loss.divisor, device=weights.device)
            loss.divisor = total.clamp(min=1)
            loss.weights = weights * fraction(loss.divisor, total)


def fraction(part: torch.Tensor | float, whole: torch.Tensor) -> torch.Tensor:
    """`part / whole`, or 0 where `whole` is 0: what weighs nothing costs nothing."""
    tiny = torch.finfo(torch.float32).tiny
    return torch.where(whole == 0, torch.zeros_like(whole, dtype=torch.float32), part / whole.clamp(min=tiny))
