"""Classification: where labels part, the cross-entropy is over the labels' tokens only."""

from collections.abc import Mapping

import torch

from hf_reason.losses import choice_log_probs
from hf_reason.models.lm_head import lm_head
from hf_reason.text.spans import CHOICE_IDS, TASK_IDS

from .base import LossTerm, Moment, Positions, TokenLoss
from .tasks import TaskTable


class Choices(LossTerm):
    """The choices of the classification tasks (see `TaskTable`).

    Args:
        tasks: The tasks of the run, if there are any.
    """

    def __init__(self, tasks: TaskTable | None):
        self.tasks = tasks

    @property
    def columns(self) -> tuple[str, ...]:
        return (TASK_IDS, CHOICE_IDS) if self.tasks is not None else ()

    def check(self, model: object, *, is_zero3: bool) -> None:
        if self.tasks is not None and len(self.tasks.choices) > 1 and is_zero3:
            raise ValueError("Classification tasks need rows of the LM head: use ZeRO-2, FSDP or DDP.")

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        if self.tasks is not None and CHOICE_IDS in batch:
            loss.choice_ids = batch[CHOICE_IDS][:, 1:]

    def score(self, log_probs: torch.Tensor, positions: Positions, loss: TokenLoss) -> torch.Tensor:
        ids = loss.choice_ids
        if self.tasks is None or ids is None:
            return log_probs
        here = positions.mask & (ids > 0)
        table = torch.tensor(self.tasks.choices).to(ids.device)
        with lm_head(positions.model) as head:
            values, right = choice_log_probs(positions.states[here], head, positions.targets[here], table[ids[here]])
        loss.chosen = right.detach()
        return log_probs.masked_fill(here, 0.0) + torch.zeros_like(log_probs).masked_scatter(
            here, values.to(log_probs.dtype)
        )
