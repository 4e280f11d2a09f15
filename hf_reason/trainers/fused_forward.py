"""What stands for the model in TRL's loss: its fused log-probabilities, with all that a token's loss may carry."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from hf_reason.losses import choice_log_probs, smoothing_term
from hf_reason.models.lm_head import causal_model, lm_head
from hf_reason.trainers.loss_terms.mixup import Mix, mixed_forward


@dataclass
class TokenLoss:
    """How the tokens of one batch are scored; `(rows, time - 1)`, a value for each target.

    Attributes:
        weights: Factor of each target's loss; `None`: 1.
        smoothing: Label smoothing.
        choice_ids: Which tokens a target is compared with, a row of `choices`; 0: the whole vocabulary.
        choices: `(sets, most)` ids, -1 where a set has fewer.
        mix: MixUp of the batch.
    """

    weights: torch.Tensor | None = None
    smoothing: float = 0.0
    choice_ids: torch.Tensor | None = None
    choices: torch.Tensor | None = None
    mix: Mix | None = None


class FusedModel:
    """Calls the model as TRL's trainer does and hands back log-probabilities that carry a `TokenLoss`.

    Attributes:
        chosen: After the forward pass, `(positions,)` bool: where a choice was to be made, whether it was right.
    """

    def __init__(self, model: Any, unwrapped: Any, loss: TokenLoss):
        self.model, self.causal, self.loss = model, causal_model(unwrapped), loss
        self.chosen: torch.Tensor | None = None

    def __call__(self, **kwargs: Any) -> Any:
        if not kwargs.get("fused_lm_head"):
            return self.model(**kwargs)
        loss, labels = self.loss, kwargs["labels"]
        with ExitStack() as stack:
            if loss.mix is not None:
                stack.enter_context(mixed_forward(self.causal, loss.mix))
                labels = loss.mix.labels(labels)
                kwargs |= {"labels": labels, "attention_mask": loss.mix.attention_mask}
            captured = stack.enter_context(_last_hidden_state(self.causal))
            outputs = self.model(**kwargs)
        mask, targets, states = outputs.label_mask, labels[:, 1:], captured[-1][:, :-1]
        if loss.choice_ids is not None:
            outputs.log_probs = self._choose(outputs.log_probs, states, targets, mask)
        if loss.smoothing > 0:
            outputs.log_probs = outputs.log_probs - loss.smoothing * self._smooth(states, targets, mask)
        weights = loss.weights
        if loss.mix is not None:
            weights = torch.ones_like(loss.mix.attention_mask[:, 1:]).float() if weights is None else weights
            weights = loss.mix.weights(weights)
        if weights is not None:
            outputs.log_probs = outputs.log_probs * weights
        return outputs

    def _choice_ids(self) -> torch.Tensor:
        assert self.loss.choice_ids is not None
        return self.loss.mix.labels(self.loss.choice_ids) if self.loss.mix else self.loss.choice_ids

    def _choose(
        self, log_probs: torch.Tensor, states: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """The log-probabilities with those of choices compared among their own tokens."""
        ids, table = self._choice_ids(), self.loss.choices
        assert table is not None
        here = mask & (ids > 0)
        with lm_head(self.causal) as head:
            values, right = choice_log_probs(states[here], head, targets[here], table.to(ids.device)[ids[here]])
        self.chosen = right.detach()
        return log_probs.masked_fill(here, 0.0) + torch.zeros_like(log_probs).masked_scatter(
            here, values.to(log_probs.dtype)
        )

    def _smooth(self, states: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(rows, time - 1)`: the smoothing's term; 0 where nothing is scored or a choice is made."""
        if self.loss.choice_ids is not None:
            mask = mask & (self._choice_ids() == 0)
        head = self.causal.get_output_embeddings()
        weight = head.weight.full_tensor() if hasattr(head.weight, "full_tensor") else head.weight
        term = smoothing_term(states[mask], weight, head.bias, targets[mask])
        return torch.zeros(mask.shape, dtype=term.dtype, device=mask.device).masked_scatter(mask, term)


@contextmanager
def _last_hidden_state(causal: Any) -> Iterator[list[torch.Tensor]]:
    """Keep what the backbone returns during one forward pass; the fused head does not hand it out."""
    captured: list[torch.Tensor] = []
    handle = causal.base_model.register_forward_hook(
        lambda module, arguments, output: captured.append(output.last_hidden_state)
    )
    try:
        yield captured
    finally:
        handle.remove()
