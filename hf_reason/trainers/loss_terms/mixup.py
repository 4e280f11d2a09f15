"""MixUp for causal language models: two chains share one forward pass, each with its own labels.

Zhang et al. 2018 mix inputs and labels; for sequences the inputs are mixed as embeddings, position by position (Guo et
al. 2020, "Sequence-Level Mixed Sample Data Augmentation"). With a share `lam`, position t sees
`lam * e(a_t) + (1 - lam) * e(b_t)` and is scored on both next tokens, the first with the weight `lam`, the second with
`1 - lam`. Where only one of the two chains goes on, its embedding stands alone.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Mix:
    """How the rows of one batch are mixed.

    Attributes:
        share: Weight of a row itself, `lam`.
        partner: `(rows,)`: the row that it is mixed with.
        inputs: `(rows, time, 1)`: weight of the row's own embedding at each position.
        attention_mask: `(rows, time)`: where either of the two has a token.
    """

    share: float
    partner: torch.Tensor
    inputs: torch.Tensor
    attention_mask: torch.Tensor

    def labels(self, labels: torch.Tensor) -> torch.Tensor:
        """`(2 x rows, ...)`: the rows' own, then their partners'."""
        return torch.cat([labels, labels[self.partner]])

    def weights(self, weights: torch.Tensor) -> torch.Tensor:
        """`(2 x rows, ...)`: weights of the two sets of labels. Their sum is that of `weights`."""
        return torch.cat([self.share * weights, (1 - self.share) * weights[self.partner]])


def draw_mix(batch: Mapping[str, torch.Tensor], alpha: float, seed: str) -> Mix:
    """A mix of a right-padded batch, `lam` from Beta(`alpha`, `alpha`); it depends on the seed alone."""
    mask = batch["attention_mask"].bool()
    rng = random.Random(seed)
    share = rng.betavariate(alpha, alpha)
    order = list(range(mask.shape[0]))
    rng.shuffle(order)
    partner = torch.tensor(order, device=mask.device)
    own, other = mask.float(), mask[partner].float()
    inputs = share * own / (share * own + (1 - share) * other).clamp(min=torch.finfo(torch.float32).tiny)
    return Mix(share, partner, inputs.unsqueeze(-1), (mask | mask[partner]).to(batch["attention_mask"].dtype))


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
