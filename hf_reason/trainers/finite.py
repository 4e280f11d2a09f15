"""A loss that is no number ends a training, before weights that are none are saved.

transformers logs the mean of the losses before it in its place (`logging_nan_inf_filter`) and trains on.
"""

from typing import Any

import torch


class NoNumberError(ValueError):
    """The loss or the weights of a training are NaN or infinite."""


class FiniteLoss:
    """Notes each loss on its device; looks at what it noted only when figures are logged or weights are saved."""

    def __init__(self) -> None:
        self._since: torch.Tensor | None = None

    def note(self, loss: torch.Tensor, step: int) -> None:
        """A loss of the step that is running. Without a transfer from the device."""
        loss = loss.detach()
        if self._since is None or self._since.device != loss.device:
            self._since = torch.full((), -1, device=loss.device)
        is_first = (self._since < 0) & ~loss.isfinite().all()
        self._since = torch.where(is_first, step, self._since)

    def check(self) -> None:
        """
        Raises:
            NoNumberError: if a loss was no finite number.
        """
        since = -1 if self._since is None else int(self._since.item())
        if since >= 0:
            raise NoNumberError(f"the loss of step {since} is NaN or infinite. {_ADVICE}")

    def check_weights(self, model: Any) -> None:
        """Weights may be no numbers before a loss is: the gradient comes first.

        Raises:
            NoNumberError: if a loss or a trained weight is no finite number.
        """
        self.check()
        for name, weight in model.named_parameters():
            # of a finite weight in float32 the sum is one, or too large for the type, which a second look tells
            if weight.requires_grad and not weight.sum(dtype=torch.float32).isfinite() and not weight.isfinite().all():
                raise NoNumberError(f"the weight {name} is NaN or infinite. {_ADVICE}")


_ADVICE = (
    "No checkpoint was written with it. Begin anew in another output_dir with a lower --learning_rate or "
    "--max_grad_norm, or with --bf16 in place of --fp16."
)
