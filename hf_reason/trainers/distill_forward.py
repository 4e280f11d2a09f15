"""The forward pass of a student that is compared with a teacher: the losses are made inside it, without logits."""

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from hf_reason.losses import chunked_divergence, path_consistency_loss, step_similarities, step_vectors
from hf_reason.models.lm_head import lm_head
from hf_reason.teachers.base import TeacherTargets, scored
from hf_reason.text.spans import IGNORE_INDEX


@dataclass
class Comparison:
    """What a forward pass needs to know about the loss; `(batch, time - 1)` where a token has a value.

    Attributes:
        targets: The teacher's.
        labels: `(batch, time)`.
        step_ids: `(batch, time)`, read for the path.
        kl_weights: Weight of each position's divergence in the loss, divisor included.
        ce_weights: The same of its cross-entropy.
        path_weight: Weight of each chain's path loss, divisor included.
        beta: See `chunked_divergence`.
        temperature: See `chunked_divergence`.
        vocab_size: Ids that teacher and student share.
    """

    targets: TeacherTargets
    labels: torch.Tensor
    step_ids: torch.Tensor | None
    kl_weights: torch.Tensor
    ce_weights: torch.Tensor
    path_weight: float | torch.Tensor
    beta: float
    temperature: float
    vocab_size: int


@dataclass
class DistillOutput(ModelOutput):  # type: ignore[misc]
    """`loss` is differentiable; `divergence` and `nll` are `(positions,)`, `path` is `(chains,)`, all without a
    gradient."""

    loss: torch.Tensor | None = None
    divergence: torch.Tensor | None = None
    nll: torch.Tensor | None = None
    path: torch.Tensor | None = None


def add_distillation(model: Any) -> None:
    """Let `model(..., comparison=Comparison(...))` return a `DistillOutput`; without it the forward is what it was.

    The losses are made inside the forward, so that the wrappers of DDP, DeepSpeed, FSDP, PEFT and autocast do their
    part; backbone and head are looked up at each call, since wrappers may replace them.
    """
    original: Callable[..., Any] = model.forward
    # StepReasoner reads where the prompt ends from the labels, which its stacks do not get here
    reads_completion = "completion_mask" in inspect.signature(type(model).forward).parameters

    # the signature stays: the Trainer reads it to choose columns, `generate` to check its arguments
    @functools.wraps(original)
    def forward(self: Any, *args: Any, comparison: Comparison | None = None, **kwargs: Any) -> Any:
        if comparison is None:
            return original(*args, **kwargs)
        kwargs.pop("labels", None)
        if reads_completion:
            kwargs.setdefault("completion_mask", comparison.labels != IGNORE_INDEX)
        states = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state
        return _compare(self, states, comparison)

    model.forward = types.MethodType(forward, model)


def _compare(model: Any, states: torch.Tensor, c: Comparison) -> DistillOutput:
    mask = scored(c.labels)
    with lm_head(model) as head:
        output = chunked_divergence(
            states[:, :-1][mask],
            head,
            c.targets.divergence,
            c.labels[:, 1:][mask],
            weights=c.kl_weights[mask],
            ce_weights=c.ce_weights[mask],
            beta=c.beta,
            temperature=c.temperature,
            vocab_size=c.vocab_size,
        )
    loss, path = output.loss, None
    if c.targets.similarities is not None:
        assert c.step_ids is not None
        vectors, counts = step_vectors(states, c.step_ids)
        path = path_consistency_loss(step_similarities(vectors), c.targets.similarities, counts)
        loss = loss + c.path_weight * path.sum()
        path = path.detach()
    return DistillOutput(loss=loss, divergence=output.divergence, nll=output.nll, path=path)


def chains_with_pairs(step_ids: torch.Tensor) -> torch.Tensor:
    """The number of chains of two steps or more, whose path losses are averaged."""
    _, counts = step_vectors(step_ids.new_zeros((*step_ids.shape, 1), dtype=torch.float32), step_ids)
    return (counts > 1).sum()
