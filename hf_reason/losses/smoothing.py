"""Label smoothing for a fused head: no tensor over the vocabulary is built."""

import torch


def smoothing_term(
    hidden_states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor
) -> torch.Tensor:
    """Label logit minus mean logit of each position.

    The smoothed loss of Szegedy et al. (2016), as `transformers.LabelSmoother` has it, is
    `(1 - e) * nll + e * mean_v(-log p_v)`. With logits `z`, `nll = lse(z) - z_y` and
    `mean_v(-log p_v) = lse(z) - mean(z)`, so it equals `nll + e * (z_y - mean(z))`; and
    `z_y - mean(z) = h . (w_y - mean_v w_v)`, which needs the label's row of the head only.

    Args:
        hidden_states: `(positions, width)`.
        weight: `(vocabulary, width)` of the LM head.
        bias: `(vocabulary,)` or `None`.
        labels: `(positions,)` ids, none of them -100.

    Returns:
        `(positions,)`, differentiable in the hidden states, the weight and the bias.
    """
    term = (hidden_states.float() * (weight[labels] - weight.mean(dim=0)).float()).sum(dim=-1)
    return term if bias is None else term + (bias[labels] - bias.mean()).float()
