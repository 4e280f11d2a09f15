"""Divergences between two distributions over events: a vocabulary, or the k likeliest tokens and the rest as one."""

import math
from typing import NamedTuple

import torch

from .head import LMHead, head_logits

# The log-probability that stands for none: that of float32's smallest normal number, about -87.
_NO_MASS = math.log(torch.finfo(torch.float32).tiny)


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


class Options(NamedTuple):
    """What `chunked_divergence` was asked for, with the defaults filled in."""

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


def row_divergence(
    student: torch.Tensor, o: Options, rows: slice, with_gradient: bool
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
    student: torch.Tensor, targets: TopKTargets, o: Options, rows: slice, with_gradient: bool
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
    # the tail's part is spread over its tokens by their probability within the tail
    gradient = student.sub_(tail).exp_().mul_(by_event[:, -1:])
    return value, gradient.scatter_(1, ids, by_event[:, :-1])


def _stored_events(targets: TopKTargets, o: Options, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the k tokens and the rest `(rows, k + 1)`, normalised, and what was taken off for it."""
    # stored ones are float16, which autocast's cat does not take on a CPU
    stored = (targets.log_probs[rows].to(o.real), targets.log_tail[rows].unsqueeze(1).to(o.real))
    teacher = torch.cat(stored, dim=1)
    excess = torch.logsumexp(teacher, dim=1, keepdim=True)
    return teacher - excess, excess


def _sampled_divergence(
    student: torch.Tensor, known: torch.Tensor, targets: TopKTargets, o: Options, rows: slice, with_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Forward KL in which each sample of the rest stands for an equal part of its mass."""
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
