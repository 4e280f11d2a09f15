"""The model in TRL's loss: its fused log-probabilities, scored by the terms of the loss."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from hf_reason.models.lm_head import causal_model
from hf_reason.trainers.loss_terms.base import LossTerm, Positions, TokenLoss


class FusedModel:
    """Calls the model as TRL's trainer does and hands back log-probabilities that the terms of the loss have scored.

    Args:
        model: The wrapped model, which is called.
        unwrapped: The same without wrappers.
        loss: How this batch is scored.
        terms: The terms that prepared it.
    """

    def __init__(self, model: Any, unwrapped: Any, loss: TokenLoss, terms: Iterable[LossTerm]):
        self.model, self.causal, self.loss, self.terms = model, causal_model(unwrapped), loss, terms

    def __call__(self, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return self.model(**kwargs)
        loss = self.loss
        kwargs |= loss.inputs
        around = nullcontext() if loss.around is None else loss.around(self.causal)
        with around, last_hidden_state(self.causal) as captured:
            outputs = self.model(**kwargs)
        # the virtual tokens of prompt tuning come first, where batches have no labels and no weights
        virtual = outputs.log_probs.shape[1] - kwargs["labels"].shape[1] + 1
        outputs.log_probs, outputs.label_mask = outputs.log_probs[:, virtual:], outputs.label_mask[:, virtual:]
        positions = Positions(self.causal, captured[-1][:, virtual:-1], kwargs["labels"][:, 1:], outputs.label_mask)
        for term in self.terms:
            outputs.log_probs = term.score(outputs.log_probs, positions, loss)
        if loss.weights is not None:
            outputs.log_probs = outputs.log_probs * loss.weights
        return outputs


@contextmanager
def last_hidden_state(causal: Any) -> Iterator[list[torch.Tensor]]:
    """Keep what the backbone returns during one forward pass; the fused head does not hand it out."""
    captured: list[torch.Tensor] = []
    handle = causal.base_model.register_forward_hook(
        lambda module, arguments, output: captured.append(output.last_hidden_state)
    )
    try:
        yield captured
    finally:
        handle.remove()
