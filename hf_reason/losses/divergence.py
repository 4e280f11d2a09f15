"""Divergence from a teacher and cross-entropy, from hidden states and LM heads, a few rows at a time."""

from dataclasses import dataclass
from typing import Any

import torch

from .events import LiveTargets, Options, TopKTargets, row_divergence
from .head import LMHead, compute_dtype, head_logits

# Elements of one tile of logits: 64 MB in float32 on a CPU, where the cache decides; 512 MB on an accelerator.
_TILE = {"cpu": 2**24}
_ACCELERATOR_TILE = 2**27


@dataclass
class DivergenceOutput:
    """`loss` is a differentiable number; `divergence` and `nll` are `(positions,)` without a gradient, in nats."""

    loss: torch.Tensor
    divergence: torch.Tensor
    nll: torch.Tensor


def chunked_divergence(
    hidden_states: torch.Tensor,
    head: LMHead,
    targets: LiveTargets | TopKTargets | None,
    labels: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    ce_weights: torch.Tensor | None = None,
    beta: float = 0.0,
    temperature: float = 1.0,
    vocab_size: int | None = None,
    chunk_size: int | None = None,
) -> DivergenceOutput:
    """`sum_i weights_i D_i + ce_weights_i nll_i`, without a `[positions, vocabulary]` tensor.

    `D_i` is a divergence between the teacher's distribution `t` and the student's `s`, both at `temperature`:

    - `beta=0`: the forward KL, `KL(t || s)`;
    - `beta=1`: the reverse KL, `KL(s || t)`;
    - between: the generalised Jensen-Shannon divergence of Agarwal et al. (2024, arXiv 2306.13649),
      `beta KL(t || m) + (1 - beta) KL(s || m)` with `m = beta t + (1 - beta) s`, TRL's convention.

    It is not multiplied by the squared temperature, as in TRL. With `TopKTargets` both distributions have k + 1
    events, the k tokens and all others together; by the data-processing inequality that is never more than the
    divergence over the vocabulary. If they hold samples of the rest, the forward KL has the expectation of the one
    over the vocabulary instead (at a single position it may be below 0). `nll_i` is the cross-entropy of the label at
    temperature 1 over the whole head.

    The gradient is made in the forward pass, while the logits of a chunk are there, so that the student's logits
    are computed once for both terms and no logits are kept. That needs the weights to be known beforehand; hence
    they are arguments, and the result is their sum.

    Args:
        hidden_states: `(positions, width)`, the student's states at the positions to be scored.
        head: The student's head.
        targets: The teacher; `None` leaves the cross-entropy alone, and a divergence of 0.
        labels: `(positions,)` ids of the next tokens; a negative one has no cross-entropy.
        weights: `(positions,)` weights of the divergence; default 1 each. A position that weighs 0 is still scored.
        ce_weights: `(positions,)` weights of the cross-entropy; default 0, then it is only reported.
        beta: Which divergence, from 0 to 1.
        temperature: Divides the logits of both sides, in the divergence only.
        vocab_size: The divergence is over the ids below it, renormalised; default: the smaller of the two heads.
        chunk_size: Positions at a time; default: as many as make a tile of 2**24 logits (2**27 on an accelerator).

    Raises:
        ValueError: if `beta` or `temperature` is out of range, or if the number of positions differs.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta must be between 0 (forward KL) and 1 (reverse KL), got {beta}.")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}.")
    positions = hidden_states.shape[0]
    given: dict[str, torch.Tensor | None] = {"labels": labels, "weights": weights, "ce_weights": ce_weights}
    given["targets"] = targets[0] if targets is not None else None
    for name, value in given.items():
        if value is not None and value.shape[0] != positions:
            raise ValueError(f"{name} has {value.shape[0]} positions, the hidden states have {positions}.")
    shared = head.weight.shape[0]
    if isinstance(targets, LiveTargets):
        shared = min(shared, targets.head.weight.shape[0])
    if vocab_size is not None and vocab_size > shared:
        raise ValueError(f"vocab_size={vocab_size}, but a head has only {shared} rows.")
    real = torch.float64 if hidden_states.dtype == torch.float64 else torch.float32
    device = hidden_states.device
    options = Options(
        targets,
        labels,
        torch.ones(positions, dtype=real, device=device) if weights is None else weights.to(real),
        torch.zeros(positions, dtype=real, device=device) if ce_weights is None else ce_weights.to(real),
        beta,
        temperature,
        vocab_size or shared,
        chunk_size or max(1, _TILE.get(device.type, _ACCELERATOR_TILE) // head.weight.shape[0]),
        torch.is_grad_enabled(),
        real,
    )
    loss, divergence, nll = _Fused.apply(
        hidden_states, head.weight, head.bias, head.logit_scale, head.softcap, options
    )
    return DivergenceOutput(loss, divergence, nll)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        softcap: float | None,
        o: Options,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        positions = hidden.shape[0]
        divergence = torch.zeros(positions, dtype=o.real, device=hidden.device)
        nll = torch.zeros(positions, dtype=o.real, device=hidden.device)
        wants = [needed and o.with_gradient for needed in ctx.needs_input_grad[:3]]
        # sums over chunks are kept in full precision whatever the parameters are
        grads = [
            torch.zeros(value.shape, dtype=o.real, device=value.device) if want and value is not None else None
            for want, value in zip(wants, (hidden, weight, bias), strict=True)
        ]
        head = LMHead(weight, bias, scale, softcap)
        for start in range(0, positions, o.chunk_size):
            rows = slice(start, min(start + o.chunk_size, positions))
            logits = head_logits(hidden[rows], head)
            if softcap is not None and any(wants):
                slope = 1 - (logits / softcap).square()
            dz = None
            labels = o.labels[rows]
            targeted = labels >= 0
            chosen = labels.clamp(min=0).unsqueeze(1)
            label_logits = logits.gather(1, chosen).squeeze(1)
            log_z = torch.logsumexp(logits, dim=1)
            nll[rows] = (log_z - label_logits) * targeted
            if any(wants):
                ce = (o.ce_weights[rows] * targeted).unsqueeze(1)
                dz = (logits - log_z.unsqueeze(1)).exp_().mul_(ce)
                dz.scatter_add_(1, chosen, -ce)
            if o.targets is not None:
                student = logits[:, : o.vocab_size].div_(o.temperature)
                student -= torch.logsumexp(student, dim=1, keepdim=True)
                divergence[rows], slope_z = row_divergence(student, o, rows, any(wants))
                if dz is not None and slope_z is not None:
                    slope_z *= (o.weights[rows] / o.temperature).unsqueeze(1)
                    dz[:, : o.vocab_size] += slope_z
                    del slope_z
            if dz is None:
                continue
            if softcap is not None:
                dz *= slope
            dz *= scale
            dtype = compute_dtype(hidden)
            narrow = dz.to(dtype)
            if grads[0] is not None:
                grads[0][rows] = (narrow @ weight.to(dtype)).to(o.real)
            if grads[1] is not None:
                _add_product(grads[1], narrow.t(), hidden[rows].to(dtype))
            if grads[2] is not None:
                grads[2] += dz.sum(dim=0)
        loss = (o.weights * divergence + o.ce_weights * nll).sum()
        inputs = (hidden, weight, bias)
        ctx.save_for_backward(
            *(g.to(v.dtype) if g is not None and v is not None else None for g, v in zip(grads, inputs, strict=True))
        )
        ctx.mark_non_differentiable(divergence, nll)
        return loss, divergence, nll

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> tuple[torch.Tensor | None, ...]:
        grads = (None if grad is None else grad * upstream[0].to(grad.dtype) for grad in ctx.saved_tensors)
        return (*grads, None, None, None)


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
