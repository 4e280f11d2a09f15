"""Training a pruned model without losing its zeros."""

from typing import Any

import torch
from transformers import TrainerCallback

from .errors import PruningError
from .projections import projections


class KeepZeros(TrainerCallback):  # type: ignore[misc]
    """Sets the weights that are zero when training begins back to zero after every optimizer step.

    trainer = DistillKLTrainer(model=pruned, teacher_model=whole, ..., callbacks=[KeepZeros()])

    A resumed run reads the zeros from the checkpoint, which is saved after they were set. A LoRA on a pruned base
    needs no callback while it is apart; merging it fills the zeros.

    Args:
        modules: `attention`, `feed_forward` or `all`, as the model was pruned.

    Raises:
        PruningError: when training begins, if the weights are partitioned among processes (ZeRO-3), quantised or
            adapted, or have no zeros.
    """

    def __init__(self, modules: str = "all") -> None:
        self.modules = modules
        self._zeros: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        found = projections(model, self.modules).values()
        weights: list[Any] = [module.weight for module in found]
        zeros = [(weight, weight == 0) for weight in weights]
        self._zeros = [(weight, mask) for weight, mask in zeros if weight.requires_grad and mask.any()]
        if not self._zeros:
            raise PruningError(
                f"KeepZeros: no trained weight of the kind {self.modules!r} is zero: prune the model first."
            )

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for weight, mask in self._zeros:
                weight.masked_fill_(mask, 0)
