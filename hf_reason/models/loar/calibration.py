"""Routers that start from how much each group matters, instead of at random."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .model import LoAR, loar_of

# Scores of a layer are between minus this and this: beyond it a sigmoid's gradient vanishes.
SCALE = 2.0


def loar_that_routes(model: Any, name: str) -> LoAR:
    """The LoAR of a model, inside PEFT's wrapper or not.

    Raises:
        ValueError: if the model has no LoAR, or one without routers.
    """
    loar = loar_of(model)
    if loar is None or loar.routers is None:
        raise ValueError(f"{name} needs a model with a LoAR that routes (apply_loar, without static_groups).")
    return loar


def calibrate_routers(
    model: Any, examples: Sequence[dict[str, Any]], *, progress: Callable[[Any], Any] = iter
) -> torch.Tensor:
    """Initialise the routers by how much each group matters on these examples.

    A new router drops groups at random, and training has to learn again what the model has lost with them. Here each
    group of each layer is switched off alone, and the rise of the loss gives its rank (`layers x groups + 1` forward
    passes an example), whatever the prompt: a layer starts as static pruning would leave it, and its router learns
    from there where to differ. The shared groups become those that matter most.

    Two things were tried and did worse: the gradient at the gates (Michel et al. 2019), one pass for all groups,
    orders those of a trained model no better than chance; a ridge regression of the rise on the prompt's states did
    not lower the loss of held-out records.

    Args:
        model: With a LoAR that has routers; before it is trained.
        examples: Encoded records (`input_ids`, `labels`) of the training: some dozens, of all domains alike.
        progress: Wraps the layers.

    Returns:
        The mean rise of the loss without each group, nats a token, `(layers, groups)`.

    Raises:
        ValueError: if there is no LoAR that routes, or no example has targets.
    """
    loar = loar_that_routes(model, "calibrate_routers")
    examples = [example for example in examples if any(label != -100 for label in example["labels"][1:])]
    if not examples:
        raise ValueError("calibrate_routers needs examples that have targets.")
    assert loar.routers is not None
    device, training = next(model.parameters()).device, model.training
    layers, groups = len(loar.budgets), loar.groups
    gates = torch.ones(layers, 1, groups, device=device)
    importance = torch.zeros(layers, groups, dtype=torch.float64)

    def loss() -> float:
        return sum(example_loss(model, example, device) for example in examples) / len(examples)

    model.eval()
    loar.probe = gates.__getitem__
    try:
        whole = loss()
        for layer in progress(range(layers)):
            for group in range(groups):
                gates[layer, 0, group] = 0.0
                importance[layer, group] = loss() - whole
                gates[layer, 0, group] = 1.0
    finally:
        loar.probe = None
        model.train(training)
    # by rank, at equal distances: the rises of a layer differ by orders of magnitude, and close ones swap their order
    ranks = importance.argsort(dim=1).argsort(dim=1)
    scores = SCALE * (2 * ranks / max(groups - 1, 1) - 1)
    with torch.no_grad():
        loar.routers.shared.copy_(importance.topk(loar.routers.shared.shape[1], dim=1).indices)
        router: Any
        for router, row in zip(loar.routers.routers, scores, strict=True):
            router.weight.zero_()
            router.bias.copy_(row)
    return importance


@torch.no_grad()
def example_loss(model: Any, example: dict[str, Any], device: torch.device) -> float:
    """The loss of one encoded record, nats a token."""
    ids, labels = (torch.tensor([example[name]], device=device) for name in ("input_ids", "labels"))
    return float(model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids), use_cache=False).loss)
