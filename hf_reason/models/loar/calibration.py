"""Routers that start from how much each group matters, instead of at random."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .model import LoAR, loar_of
from .together import best_of_all, worth_together

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
    """Initialise the routers by how much each group, or head, matters on these examples.

    A new router drops groups at random, and training has to learn again what the model has lost with them. Here each
    group of each layer is switched off alone, and the rise of the loss gives its rank (`layers x groups + 1` forward
    passes an example), whatever the prompt: a layer starts as static pruning would leave it, and its router learns
    from there where to differ. The shared groups become those that matter most.

    Two things were tried for groups and did worse: the gradient at the gates (Michel et al. 2019), one pass for all of
    them, orders those of a layer of a trained model no better than chance; a ridge regression of the rise on the
    prompt's states did not lower the loss of held-out records.

    Heads are scored together by the size of the gradient at their gates (`worth_together`), one pass for all of them:
    there are hundreds in a large model, and of several that leave at once each costs more than it does alone. On a
    trained demo model (four layers of four heads, 64 records for the scores and 64 held out) the loss was 0.390; with
    5 heads of the model off it was 0.515 by these scores and 1.836 by those of each head alone, with 7 off 0.769 and
    1.925; with 1 off both gave 0.391. With a fraction as budget this also says how many heads each layer keeps; a
    list of budgets stays.

    Args:
        model: With a LoAR that has routers; before it is trained.
        examples: Encoded records (`input_ids`, `labels`) of the training: some dozens, of all domains alike.
        progress: Wraps the layers, or the passes.

    Returns:
        The mean rise of the loss without each group, nats a token, `(layers, groups)`; or each head's score,
        `(layers, heads)`.

    Raises:
        ValueError: if there is no LoAR that routes, or no example has targets.
    """
    loar = loar_that_routes(model, "calibrate_routers")
    examples = [example for example in examples if any(label != -100 for label in example["labels"][1:])]
    if not examples:
        raise ValueError("calibrate_routers needs examples that have targets.")
    training = model.training
    model.eval()
    try:
        if loar.config.grain == "heads":
            importance = _of_heads(loar, model, examples, progress)
        else:
            importance = _alone(loar, model, examples, progress)
    finally:
        loar.probe = None
        model.train(training)
    # by rank, at equal distances: the rises of a layer differ by orders of magnitude, and close ones swap their order
    ranks = importance.argsort(dim=1).argsort(dim=1)
    scores = SCALE * (2 * ranks / max(loar.units - 1, 1) - 1)
    assert loar.routers is not None
    with torch.no_grad():
        loar.routers.shared.copy_(importance.topk(loar.routers.shared.shape[1], dim=1).indices)
        router: Any
        for router, row in zip(loar.routers.routers, scores, strict=True):
            router.weight.zero_()
            router.bias.copy_(row)
    return importance


def _of_heads(
    loar: LoAR, model: Any, examples: Sequence[dict[str, Any]], progress: Callable[[Any], Any]
) -> torch.Tensor:
    """Scores made together; they say how many heads each layer keeps, too, unless the user has."""
    scores = worth_together(loar, model, examples, progress=progress)
    if not isinstance(loar.config.budget, Sequence):
        kept = best_of_all(scores, sum(loar.budgets), max(1, loar.config.shared_groups))
        loar.set_budgets(kept.sum(dim=1).tolist())
    return scores.double()


def _alone(loar: LoAR, model: Any, examples: Sequence[dict[str, Any]], progress: Callable[[Any], Any]) -> torch.Tensor:
    """The rise of the loss without each group alone."""
    device, layers = next(model.parameters()).device, len(loar.budgets)
    gates = torch.ones(layers, 1, loar.units, device=device)
    importance = torch.zeros(layers, loar.units, dtype=torch.float64)

    def loss() -> float:
        return sum(example_loss(model, example, device) for example in examples) / len(examples)

    loar.probe = gates.__getitem__
    whole = loss()
    for layer in progress(range(layers)):
        for group in range(loar.units):
            gates[layer, 0, group] = 0.0
            importance[layer, group] = loss() - whole
            gates[layer, 0, group] = 1.0
    return importance


@torch.no_grad()
def example_loss(model: Any, example: dict[str, Any], device: torch.device) -> float:
    """The loss of one encoded record, nats a token."""
    ids, labels = (torch.tensor([example[name]], device=device) for name in ("input_ids", "labels"))
    return float(model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids), use_cache=False).loss)
