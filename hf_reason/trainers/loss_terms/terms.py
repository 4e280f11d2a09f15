"""The terms of a run's loss, in their order."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from .base import LossTerm, Moment, TokenLoss
from .choices import Choices
from .importance import Importance
from .mixup import MixUp
from .smoothing import LabelSmoothing
from .tasks import TaskTable
from .token_weights import TokenWeights

if TYPE_CHECKING:
    from hf_reason.trainers.cot_sft_config import CoTSFTConfig


class LossTerms:
    """All terms of a configuration, switched on or not.

    Args:
        args: The configuration.
        tasks: Its tasks, if it has any.
    """

    def __init__(self, args: "CoTSFTConfig", tasks: TaskTable | None):
        self.token_weights = TokenWeights(args, tasks)
        self.importance = Importance(args)
        self.choices = Choices(tasks)
        self.smoothing = LabelSmoothing(args.label_smoothing_factor)
        self.mixup = MixUp(args.mixup_alpha, args.seed, args.process_index)

    def __iter__(self) -> Iterator[LossTerm]:
        # MixUp is last: it doubles what the others have entered
        return iter((self.token_weights, self.importance, self.choices, self.smoothing, self.mixup))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a batch that some term reads."""
        return tuple(dict.fromkeys(column for term in self for column in term.columns))

    def check(self, model: Any, *, is_zero3: bool) -> None:
        """`check` of every term.

        Raises:
            ValueError: if one of them does not work with the model.
        """
        for term in self:
            term.check(model, is_zero3=is_zero3)

    def prepare(
        self, batch: Mapping[str, torch.Tensor], moment: Moment, divisor: torch.Tensor | int | None
    ) -> TokenLoss:
        """How a batch is scored."""
        loss = TokenLoss(divisor=divisor)
        for term in self:
            term.prepare(loss, batch, moment)
        return loss
