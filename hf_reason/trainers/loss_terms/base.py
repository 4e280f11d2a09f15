"""What the terms of the training loss have in common.

A term has three methods. `check` refuses a model or a sharding that it does not work with. `prepare` enters its part
of one batch into a `TokenLoss`, before the forward pass. `score` changes the log-probabilities of that batch, after
it. `columns` names the columns of a batch, beyond `input_ids` and `labels`, that it reads.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch


class Moment(NamedTuple):
    """When a batch is scored: in training or in evaluation, and after how many optimizer steps."""

    training: bool
    step: int


@dataclass
class TokenLoss:
    """How the tokens of one batch are scored. Its tensors are `(rows, time - 1)`, a value for each target.

    Attributes:
        divisor: What the sum over the targets is divided by; `None`: their number.
        weights: Factor of each target's loss; `None`: 1.
        choice_ids: Which tokens a target is compared with; 0: the whole vocabulary.
        smoothing: Label smoothing.
        inputs: What the model is given in place of the batch's own.
        around: Makes a context of the causal model, inside which the forward pass runs.
        chosen: After the forward pass, `(positions,)` bool: where a choice was to be made, whether it was right.
    """

    divisor: torch.Tensor | int | None = None
    weights: torch.Tensor | None = None
    choice_ids: torch.Tensor | None = None
    smoothing: float = 0.0
    inputs: dict[str, torch.Tensor] = field(default_factory=dict)
    around: Callable[[Any], AbstractContextManager[None]] | None = None
    chosen: torch.Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is TRL's mean over the targets."""
        return self.weights is None and self.smoothing == 0 and self.around is None


class Positions(NamedTuple):
    """What the forward pass made of a batch.

    Attributes:
        model: The causal language model, for its head.
        states: `(rows, time - 1, width)`: the states that the targets are predicted from.
        targets: `(rows, time - 1)` ids; -100 where there is none.
        mask: `(rows, time - 1)`: where there is one.
    """

    model: Any
    states: torch.Tensor
    targets: torch.Tensor
    mask: torch.Tensor


class LossTerm:
    """One term of the training loss; by itself it does nothing."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of a batch that the term reads; none where it is switched off."""
        return ()

    def check(self, model: Any, *, is_zero3: bool) -> None:
        """Refuse what the term does not work with.

        Args:
            model: The model that is trained, unwrapped.
            is_zero3: Whether DeepSpeed has cut its weights.

        Raises:
            ValueError: if it does not work with them.
        """

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        """Enter the term's part of a batch into `loss`, which holds that of the terms before it."""

    def score(self, log_probs: torch.Tensor, positions: Positions, loss: TokenLoss) -> torch.Tensor:
        """The targets' log-probabilities `(rows, time - 1)` with the term's part in them."""
        return log_probs
