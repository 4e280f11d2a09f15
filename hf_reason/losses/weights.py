"""Token weights from the span columns: how much a thought, an answer and each step count in the loss."""

import torch

from hf_reason.text.spans import ANSWER, IGNORE_INDEX, THOUGHT


def token_weights(
    labels: torch.Tensor,
    segment_ids: torch.Tensor,
    step_ids: torch.Tensor,
    *,
    thought_weight: float = 1.0,
    answer_weight: float = 1.0,
    step_weighting: str = "token",
) -> torch.Tensor:
    """Weight of each token as a prediction target.

    With `step_weighting="token"` a token weighs `thought_weight` or `answer_weight` by its segment. With `"step"`
    that weight is divided by the number of target tokens of its step, so every step (the answer is the last one)
    counts alike however long it is. A weighted loss is the sum of weight x negative log-likelihood over the sum
    of weights, so a common factor changes nothing.

    Args:
        labels: `(batch, time)`; -100 is no target and weighs 0.
        segment_ids: `(batch, time)`; 0 prompt, 1 thought, 2 answer.
        step_ids: `(batch, time)`; 0 prompt, 1..n the step, n + 1 the answer. In a packed row the prompts separate
            the sequences, so equal numbers of two sequences are never one step.
        thought_weight: Weight of the thought's tokens.
        answer_weight: Weight of the answer's tokens, the end of turn among them.
        step_weighting: `"token"` or `"step"`.

    Returns:
        `(batch, time)` float tensor.
    """
    target = labels != IGNORE_INDEX
    # A target outside both segments (a data set of the user's own) counts as TRL counts it.
    weights = torch.ones(labels.shape, dtype=torch.float32, device=labels.device)
    weights = weights.masked_fill(segment_ids == THOUGHT, thought_weight)
    weights = weights.masked_fill(segment_ids == ANSWER, answer_weight)
    weights = weights * target
    if step_weighting == "step":
        # A step is a run of equal step ids; rows are cut apart by making the row part of the key.
        row = torch.arange(labels.shape[0], device=labels.device).unsqueeze(1)
        keys = (row * (int(step_ids.max()) + 1 if step_ids.numel() else 1) + step_ids).reshape(-1)
        _, run = torch.unique_consecutive(keys, return_inverse=True)
        counts = torch.zeros(int(run[-1]) + 1, device=labels.device).index_add_(0, run, target.reshape(-1).float())
        weights = weights / counts[run].clamp(min=1).view_as(weights)
    elif step_weighting != "token":
        raise ValueError(f"step_weighting must be 'token' or 'step', got {step_weighting!r}.")
    return weights
