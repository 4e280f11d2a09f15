"""The forward pass of a student that is compared with a teacher: the losses are made inside it, without logits."""

import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from hf_reason.losses import (
    LMHead,
    agreement,
    chunked_divergence,
    path_consistency_loss,
    step_similarities,
    step_vectors,
)
from hf_reason.models.lm_head import lm_head
from hf_reason.teachers.base import Part, SeveralTargets, TeacherTargets, scored
from hf_reason.text.spans import IGNORE_INDEX

from .fused_forward import last_hidden_state

# Likeliest tokens of which the log says how many teacher and student have in common.
OVERLAP_TOP_K = 16
# Positions of a batch at which student and teacher are compared for the log, evenly spaced: the heads run once more.
_COMPARED_POSITIONS = 1024


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
        top_k: For the log: overlap of so many of the likeliest tokens, and the student's entropy; 0: not wanted.
        keep: Called with the result, where the forward returns something else (`add_comparison`).
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
    top_k: int = 0
    keep: "Callable[[DistillOutput], None] | None" = None


@dataclass
class DistillOutput(ModelOutput):  # type: ignore[misc]
    """`loss` is differentiable; `divergence` and `nll` are `(positions,)`, `path` is `(chains,)`, all without a
    gradient. `overlap` and `entropy` are of a sample of the positions (see `losses.agreement`)."""

    loss: torch.Tensor | None = None
    divergence: torch.Tensor | None = None
    nll: torch.Tensor | None = None
    path: torch.Tensor | None = None
    overlap: torch.Tensor | None = None
    entropy: torch.Tensor | None = None


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


def add_comparison(model: Any) -> None:
    """Let `model(..., comparison=Comparison(...))` compare beside what its forward does, TRL's fused head included.

    The forward returns what it returned; `Comparison.keep` gets the `DistillOutput`. Call it after the fused head has
    been added.
    """
    original: Callable[..., Any] = model.forward

    @functools.wraps(original)
    def forward(self: Any, *args: Any, comparison: Comparison | None = None, **kwargs: Any) -> Any:
        if comparison is None:
            return original(*args, **kwargs)
        with last_hidden_state(self) as captured:
            outputs = original(*args, **kwargs)
        # not in the outputs, which mixed precision builds anew from the fields that it knows
        assert comparison.keep is not None
        comparison.keep(_compare(self, captured[-1], comparison))
        return outputs

    model.forward = types.MethodType(forward, model)


def _compare(model: Any, states: torch.Tensor, c: Comparison) -> DistillOutput:
    mask = scored(c.labels)
    whole = c.targets.divergence
    with lm_head(model) as head:
        if isinstance(whole, SeveralTargets):
            output = _against_several(states, head, c, whole)
        else:
            output = _against(states[:, :-1][mask], head, c, mask, Part(None, whole, c.vocab_size))
    if c.targets.similarities is None:
        return output
    assert c.step_ids is not None
    vectors, counts = step_vectors(states, c.step_ids)
    path = path_consistency_loss(step_similarities(vectors), c.targets.similarities, counts)
    # a new one: a field that was None when an output was made is no part of it for those who rebuild it
    loss: Any = output.loss
    return DistillOutput(**{**output, "loss": loss + c.path_weight * path.sum(), "path": path.detach()})


def _against_several(states: torch.Tensor, head: LMHead, c: Comparison, whole: SeveralTargets) -> DistillOutput:
    """Every row against its own teacher."""
    mask = scored(c.labels)
    order = mask.reshape(-1).cumsum(0).view(mask.shape) - 1
    outputs, places = [], []
    for part in whole.parts:
        own = mask & part.rows.to(mask.device).unsqueeze(1)  # type: ignore[union-attr]
        outputs.append(_against(states[:, :-1][own], head, c, own, part))
        places.append(order[own])
    back = torch.cat(places).argsort()

    def together(name: str, ordered: bool) -> torch.Tensor | None:
        values = [getattr(output, name) for output in outputs]
        if values[0] is None:
            return None
        return torch.cat(values)[back] if ordered else torch.cat(values)

    return DistillOutput(
        loss=torch.stack([output.loss for output in outputs]).sum(),  # type: ignore[misc]
        divergence=together("divergence", True),
        nll=together("nll", True),
        overlap=together("overlap", False),
        entropy=together("entropy", False),
    )


def _against(states: torch.Tensor, head: LMHead, c: Comparison, mask: torch.Tensor, part: Part) -> DistillOutput:
    """The positions of `mask` against one teacher; `states` are theirs."""
    output = chunked_divergence(
        states,
        head,
        part.targets,
        c.labels[:, 1:][mask],
        weights=c.kl_weights[mask],
        ce_weights=c.ce_weights[mask],
        beta=c.beta,
        temperature=c.temperature,
        vocab_size=part.vocab_size,
    )
    seen = None
    if c.top_k:
        sample = _sample(len(states), states.device)
        seen = agreement(
            states[sample],
            head,
            type(part.targets)(*(_at(field, sample) for field in part.targets)),  # type: ignore[arg-type]
            top_k=c.top_k,
            temperature=c.temperature,
            vocab_size=part.vocab_size,
        )
    figures: Any = {} if seen is None else seen._asdict()
    return DistillOutput(loss=output.loss, divergence=output.divergence, nll=output.nll, **figures)


def _sample(count: int, device: torch.device) -> torch.Tensor:
    """At most `_COMPARED_POSITIONS` of `count` positions, evenly spaced."""
    number = min(count, _COMPARED_POSITIONS)
    return torch.arange(number, device=device) * count // max(number, 1)


def _at(field: Any, sample: torch.Tensor) -> Any:
    """A field of the teacher's targets at the sample; its head is not one of positions."""
    return field[sample] if isinstance(field, torch.Tensor) else field


def chains_with_pairs(step_ids: torch.Tensor) -> torch.Tensor:
    """The number of chains of two steps or more, whose path losses are averaged."""
    _, counts = step_vectors(step_ids.new_zeros((*step_ids.shape, 1), dtype=torch.float32), step_ids)
    return (counts > 1).sum()
