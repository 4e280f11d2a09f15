"""A look at the first batch: whether the model can learn to stop."""

from collections.abc import Mapping
from typing import Any

import torch

from hf_reason.text.spans import ANSWER, IGNORE_INDEX, SPAN_COLUMNS


def check_ends(batch: Mapping[str, Any], end: int) -> bool:
    """Every answer of a batch must end in the end-of-turn token, or the model never learns to stop.

    Args:
        batch: A batch with span columns, or one of TRL's, which is not judged.
        end: Id of the end-of-turn token.

    Returns:
        Whether the batch could be judged. Only the last piece of a split chain has an answer, so a batch may have
        none.

    Raises:
        ValueError: if an answer ends otherwise.
    """
    if SPAN_COLUMNS[0] not in batch:
        return True
    labels = batch["labels"]
    # a row without a target (masked by its maker) teaches nothing, nor anything wrong
    answer = (batch["segment_ids"] == ANSWER) & (labels != IGNORE_INDEX).any(dim=1, keepdim=True)
    followed = torch.zeros_like(answer)
    followed[:, :-1] = answer[:, 1:]
    last = labels[answer & ~followed]
    if (last != end).any() or IGNORE_INDEX in last:
        raise ValueError(
            f"A completion of the first batch does not end in the end-of-turn token (id {end}): last labels "
            f"{last.tolist()}. Encode records with hf_reason.text.encode and the same tokenizer."
        )
    return bool(answer.any())
