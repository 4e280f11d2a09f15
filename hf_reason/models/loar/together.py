"""What every query head of a model is worth, from one backward pass an example for all of them together."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .routing import Routing


def worth_together(
    loar: Routing, model: Any, examples: Sequence[dict[str, Any]], *, progress: Callable[[Any], Any] = iter
) -> torch.Tensor:
    """Scores of all units: how strongly the loss of a chain asks for each one's gate.

    That is the size of the gradient at the gate (Michel et al. 2019), averaged over chains: `sqrt(n) |dL/dg|` with
    the mean loss `L` of a chain of `n` targets. A chain that the model would write itself has a gradient of mean 0
    there, and its size is the curvature's root (Fisher): what the loss rises by, to second order, without the unit.
    Signs would say what this one chain would rather do without, which is noise.

    Args:
        loar: The routing.
        model: Its model, in evaluation.
        examples: Encoded records with targets.
        progress: Wraps the examples.

    Returns:
        `(layers, units)`, at least 0, comparable between layers.
    """
    shape = len(loar.budgets), loar.units
    gates, scores = torch.ones(shape, device=next(model.parameters()).device), torch.zeros(shape)
    for example in progress(examples):
        gradient, targets = gate_gradient(loar, model, example, gates)
        scores += gradient.abs() * targets**0.5 / len(examples)
    return scores


def gate_gradient(loar: Routing, model: Any, example: dict[str, Any], gates: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The gradient of an example's mean loss at the gates `(layers, units)`, and its number of targets."""
    ids, labels = (torch.tensor([example[name]], device=gates.device) for name in ("input_ids", "labels"))
    gates = gates.detach().clone().requires_grad_(True)
    loar.probe = lambda layer: gates[layer][None]
    try:
        with torch.enable_grad():
            loss = model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids), use_cache=False).loss
            (gradient,) = torch.autograd.grad(loss, gates)
    finally:
        loar.probe = None
        for attention in loar._layers:
            attention.loar.gates = None  # with their graph, which no copy of the model could take along
    return gradient.float().cpu(), int((labels[:, 1:] != -100).sum())


def best_of_all(scores: torch.Tensor, count: int, least: int) -> torch.Tensor:
    """A mask of the `count` best units of the whole model, with the `least` best of each layer among them."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask.scatter_(1, scores.topk(least, dim=1).indices, True)
    rest = scores.masked_fill(mask, -torch.inf).flatten().topk(count - int(mask.sum())).indices
    mask.view(-1)[rest] = True
    return mask
