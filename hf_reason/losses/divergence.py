"""Divergence from a teacher and cross-entropy, from hidden states and LM heads, a few rows at a time."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

# Elements of one tile of logits: 64 MB in float32 on a CPU, where the cache decides; 512 MB on an accelerator.
_TILE = {"cpu": 2**24}
_ACCELERATOR_TILE = 2**27
# The log-probability that stands for none: that of float32's smallest normal number, about -87.
_NO_MASS = math.log(torch.finfo(torch.float32).tiny)


class LMHead(NamedTuple):
    """What turns hidden states into logits: `softcap * tanh(logit_scale * (h @ weight.T + bias) / softcap)`.

    `weight` is `(vocabulary, width)`, `bias` `(vocabulary,)` or `None`; without `softcap` there is no tanh.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    logit_scale: float = 1.0
    softcap: float | None = None


class LiveTargets(NamedTuple):
    """A teacher that is there: its hidden states `(positions, teacher width)` and its head."""

    hidden_states: torch.Tensor
    head: LMHead


class TopKTargets(NamedTuple):
    """A teacher's k most likely tokens at each position, and the rest as one event.

    `ids` and `log_probs` are `(positions, k)`, `log_tail` is `(positions,)`: the logarithm of the mass of all other
    tokens, `-inf` where there is none (it counts as the smallest float32, so a reverse KL stays finite). They are
    brought to a sum of 1, since stored ones are rounded, and belong to the temperature they are used with.

    `tail_ids` `(positions, samples)` are tokens drawn from the rest in proportion to their probability, and
    `tail_log_prob` `(positions,)` is the mean of their log-probabilities. With them the forward KL is an unbiased
    estimate of the one over the vocabulary (importance sampling, as in Anshumann et al. 2025, arXiv 2503.16870, but of
    the rest alone); without them, and for other divergences, the rest is one event.
    """

    ids: torch.Tensor
    log_probs: torch.Tensor
    log_tail: torch.Tensor
    tail_ids: torch.Tensor | None = None
    tail_log_prob: torch.Tensor | None = None


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
    options = _Options(
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


class _Options(NamedTuple):
    targets: LiveTargets | TopKTargets | None
    labels: torch.Tensor
    weights: torch.Tensor
    ce_weights: torch.Tensor
    beta: float
    temperature: float
    vocab_size: int
    chunk_size: int
    with_gradient: bool
    real: torch.dtype


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
        softcap: float | None,
        o: _Options,
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
                divergence[rows], slope_z = _divergence(student, o, rows, any(wants))
                if dz is not None and slope_z is not None:
                    slope_z *= (o.weights[rows] / o.temperature).unsqueeze(1)
                    dz[:, : o.vocab_size] += slope_z
                    del slope_z
            if dz is None:
                continue
            if softcap is not None:
                dz *= slope
            dz *= scale
            dtype = _compute_dtype(hidden)
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


def _compute_dtype(hidden: torch.Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _add_product(total: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def head_logits(hidden: torch.Tensor, head: LMHead) -> torch.Tensor:
    """Logits `(positions, vocabulary)` of states `(positions, width)`, in float32, or float64 for such states.

    The product runs in the states' precision, or in autocast's.
    """
    real = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    dtype = _compute_dtype(hidden)
    logits = (hidden.to(dtype) @ head.weight.to(dtype).t()).to(real)
    if head.bias is not None:
        logits += head.bias.to(real)
    if head.logit_scale != 1.0:
        logits *= head.logit_scale
    if head.softcap is not None:
        logits.div_(head.softcap).tanh_().mul_(head.softcap)
    return logits


def _divergence(
    student: torch.Tensor, o: _Options, rows: slice, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Divergence of each row, and its derivative by the student's scaled logits."""
    if isinstance(o.targets, TopKTargets):
        return _top_k_divergence(student, o.targets, o, rows, with_gradient)
    assert o.targets is not None
    teacher = head_logits(o.targets.hidden_states[rows], o.targets.head)
    teacher = teacher[:, : o.vocab_size].to(o.real).div_(o.temperature)
    teacher -= torch.logsumexp(teacher, dim=1, keepdim=True)
    return _event_divergence(student, teacher, o.beta, with_gradient)


def _event_divergence(
    student: torch.Tensor, teacher: torch.Tensor, beta: float, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Divergence of log-probabilities over events `(rows, events)`, and its derivative by the student's logits."""
    q = student.exp()
    if beta == 0:
        p = teacher.exp()
        value = (p * (teacher - student)).sum(dim=1)
        return value, q.sub_(p) if with_gradient else None
    if beta == 1:
        gap = student - teacher
        value = rest = (q * gap).sum(dim=1)
    else:
        gap = student - torch.logaddexp(student + math.log(1 - beta), teacher + math.log(beta))
        rest = (q * gap).sum(dim=1)
        value = (1 - beta) * rest + beta * (teacher.exp() * (teacher - student + gap)).sum(dim=1)
    if not with_gradient:
        return value, None
    # with m the mixture: d D / d z_v = q_v (log(q_v / m_v) - KL(q || m)), times 1 - beta unless it is the reverse KL
    gap -= rest.unsqueeze(1)
    return value, gap.mul_(q).mul_(1 - beta if beta < 1 else 1.0)


def _top_k_divergence(
    student: torch.Tensor, targets: TopKTargets, o: _Options, rows: slice, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    ids = targets.ids[rows]
    known = student.gather(1, ids)
    if o.beta == 0 and targets.tail_ids is not None:
        return _sampled_divergence(student, known, targets, o, rows, with_gradient)
    # the mass of all other tokens, from those tokens: 1 - sum would be rounding error where it is small
    student.scatter_(1, ids, -torch.inf)
    tail = torch.logsumexp(student, dim=1, keepdim=True)
    teacher, _ = _stored_events(targets, o, rows)
    # an event without mass would make the divergence infinite or undefined
    tail, teacher = (x.masked_fill(x.isneginf(), _NO_MASS) for x in (tail, teacher))
    value, by_event = _event_divergence(torch.cat([known, tail], dim=1), teacher, o.beta, with_gradient)
    if by_event is None:
        return value, None
    # the tail's share is spread over its tokens by their probability within the tail
    gradient = student.sub_(tail).exp_().mul_(by_event[:, -1:])
    return value, gradient.scatter_(1, ids, by_event[:, :-1])


def _stored_events(targets: TopKTargets, o: _Options, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the k tokens and the rest `(rows, k + 1)`, normalised, and what was taken off for it."""
    # stored ones are float16, which autocast's cat does not take on a CPU
    stored = (targets.log_probs[rows].to(o.real), targets.log_tail[rows].unsqueeze(1).to(o.real))
    teacher = torch.cat(stored, dim=1)
    excess = torch.logsumexp(teacher, dim=1, keepdim=True)
    return teacher - excess, excess


def _sampled_divergence(
    student: torch.Tensor, known: torch.Tensor, targets: TopKTargets, o: _Options, rows: slice, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Forward KL in which each sample of the rest stands for an equal share of its mass."""
    assert targets.tail_ids is not None and targets.tail_log_prob is not None
    samples = targets.tail_ids[rows]
    teacher, excess = _stored_events(targets, o, rows)
    mass = teacher.exp()
    of_teacher = targets.tail_log_prob[rows].to(o.real) - excess.squeeze(1)
    of_student = student.gather(1, samples).clamp(min=_NO_MASS).mean(dim=1)
    value = (mass[:, :-1] * (teacher[:, :-1] - known)).sum(dim=1) + mass[:, -1] * (of_teacher - of_student)
    if not with_gradient:
        return value, None
    gradient = student.exp_().scatter_add_(1, targets.ids[rows], -mass[:, :-1])
    return value, gradient.scatter_add_(1, samples, (-mass[:, -1:] / samples.shape[1]).expand_as(samples))
