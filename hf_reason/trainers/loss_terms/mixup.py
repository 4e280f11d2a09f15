"""MixUp for causal language models: two chains share one forward pass, each with its own labels.

Zhang et al. 2018 mix inputs and labels; for sequences the inputs are mixed as embeddings, position by position (Guo et
al. 2020, "Sequence-Level Mixed Sample Data Augmentation"). With a ratio `lam`, position t sees
`lam * e(a_t) + (1 - lam) * e(b_t)` and is scored on both next tokens, the first with the weight `lam`, the second with
`1 - lam`. Where one of the two chains has ended, the embedding of the other is used alone.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .base import LossTerm, Moment, TokenLoss


@dataclass(frozen=True)
class Mix:
    """How the rows of one batch are mixed.

    Attributes:
        ratio: Weight of a row itself, `lam`.
        partner: `(rows,)`: the row that it is mixed with.
        inputs: `(rows, time, 1)`: weight of the row's own embedding at each position.
        attention_mask: `(rows, time)`: where either of the two has a token.
    """

    ratio: float
    partner: torch.Tensor
    inputs: torch.Tensor
    attention_mask: torch.Tensor

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """`(2 x rows, ...)`: the rows' own, then their partners'."""
        return torch.cat([labels, labels[self.partner]])

    def weights(self, weights: torch.Tensor) -> torch.Tensor:
        """`(2 x rows, ...)`: weights of the two sets of labels. Their sum is that of `weights`."""
        return torch.cat([self.ratio * weights, (1 - self.ratio) * weights[self.partner]])


def draw_mix(batch: Mapping[str, torch.Tensor], alpha: float, seed: str) -> Mix:
    """A mix of a right-padded batch, `lam` from Beta(`alpha`, `alpha`); it depends on the seed alone."""
    mask = batch["attention_mask"].bool()
    rng = random.Random(seed)
    ratio = rng.betavariate(alpha, alpha)
    order = list(range(mask.shape[0]))
    rng.shuffle(order)
    partner = torch.tensor(order, device=mask.device)
    own, other = mask.float(), mask[partner].float()
    inputs = ratio * own / (ratio * own + (1 - ratio) * other).clamp(min=torch.finfo(torch.float32).tiny)
    return Mix(ratio, partner, inputs.unsqueeze(-1), (mask | mask[partner]).to(batch["attention_mask"].dtype))


class MixUp(LossTerm):
    """Mixes the rows of a training batch.

    The draw depends on the step, the batch and the process alone, so a resumed run repeats it.

    Args:
        alpha: Of the Beta distribution; 0 switches it off.
        seed: The run's.
        process_index: This process's number.
    """

    def __init__(self, alpha: float, seed: int, process_index: int):
        self.alpha, self.seed, self.process_index = alpha, seed, process_index
        self._mixed = (0, 0)  # the step, and how many of its batches have been mixed

    def check(self, model: Any, *, is_zero3: bool) -> None:
        if self.alpha > 0 and model.config.model_type == "step_reasoner":
            raise ValueError(
                "MixUp does not work with StepReasoner: two chains have their steps at different places. Set "
                "mixup_alpha=0."
            )

    def prepare(self, loss: TokenLoss, batch: Mapping[str, torch.Tensor], moment: Moment) -> None:
        if self.alpha == 0 or not moment.training or batch["labels"].shape[0] < 2:
            return
        step, before = self._mixed
        self._mixed = (moment.step, before + 1 if step == moment.step else 0)
        mix = draw_mix(batch, self.alpha, f"{self.seed} {moment.step} {self._mixed[1]} {self.process_index}")
        loss.inputs = {"labels": mix.labels(batch["labels"]), "attention_mask": mix.attention_mask}
        loss.around = lambda model: mixed_forward(model, mix)
        weights = loss.weights
        loss.weights = mix.weights(torch.ones_like(mix.attention_mask[:, 1:]).float() if weights is None else weights)
        if loss.choice_ids is not None:
            loss.choice_ids = mix.labels(loss.choice_ids)


@contextmanager
def mixed_forward(model: Any, mix: Mix) -> Iterator[None]:
    """Inside it, the model's embeddings are mixed, and its last hidden states come twice, for two sets of labels.

    Hooks, and not `inputs_embeds`: the embedding stays inside the forward of DDP, DeepSpeed and FSDP.

    Args:
        model: The causal language model (inside PEFT's wrapper, if there is one).
        mix: How to mix.
    """

    def mix_embeddings(module: Any, arguments: Any, embedded: torch.Tensor) -> torch.Tensor:
        own = mix.inputs.to(embedded.dtype)
        return own * embedded + (1 - own) * embedded[mix.partner]

    def twice(module: Any, arguments: Any, output: Any) -> Any:
        output.last_hidden_state = torch.cat([output.last_hidden_state] * 2)
        return output

    handles = [
        model.get_input_embeddings().register_forward_hook(mix_embeddings),
        model.base_model.register_forward_hook(twice),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
