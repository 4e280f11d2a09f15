"""Cross-entropy over a few tokens only: the loss of a classification by label words."""

import torch

from .head import LMHead


def choice_log_probs(
    hidden_states: torch.Tensor, head: LMHead, targets: torch.Tensor, choices: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each target among the tokens that are allowed at its position.

    With logits `z`, `log p(y | C) = z_y - logsumexp(z_c, c in C)`: the model's distribution renormalised to `C`, as
    decoding that is constrained to `C` would have it. Only the head's rows of `C` are multiplied.

    Args:
        hidden_states: `(positions, width)`.
        head: The LM head.
        targets: `(positions,)` ids, each one of its position's choices.
        choices: `(positions, most)` ids, -1 where a position has fewer.

    Returns:
        `(positions,)` log-probabilities, differentiable in hidden states and head, and `(positions,)` bool: whether
        the target is the likeliest choice.
    """
    rows = choices.clamp(min=0)
    logits = torch.einsum("pd,pcd->pc", hidden_states.float(), head.weight[rows].float())
    if head.bias is not None:
        logits = logits + head.bias[rows].float()
    logits = logits * head.logit_scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    logits = logits.masked_fill(choices < 0, -torch.inf)
    place = (choices == targets.unsqueeze(1)).float().argmax(dim=1, keepdim=True)
    best = logits.argmax(dim=1, keepdim=True) == place
    return logits.log_softmax(dim=1).gather(1, place).squeeze(1), best.squeeze(1)
