"""How strong each input of a matrix is on examples: what Wanda weighs a weight with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .errors import PruningError
from .projections import projections


@torch.no_grad()
def input_norms(
    model: Any,
    examples: Sequence[Mapping[str, Any]],
    *,
    modules: str = "attention",
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> dict[str, torch.Tensor]:
    """The L2 norm of each input of each linear module, over all tokens of the examples.

    Args:
        model: A causal language model with plain weights; its mode is left as it was.
        examples: Encoded records with `input_ids` (a list of ids each): the chains that the model must still write.
        modules: As for `prune_weights`.
        progress: Wraps the examples.

    Returns:
        Full name of a module -> norms of its inputs, `(in_features,)`, float32 on the module's device.

    Raises:
        PruningError: if there are no examples, or a module saw none of their tokens (an expert that was never chosen
            keeps norms of 0 and is not an error).
    """
    if not examples:
        raise PruningError("input_norms needs examples: encoded records with input_ids.")
    found, squares = projections(model, modules), dict[str, torch.Tensor]()
    handles = [module.register_forward_pre_hook(_adds_to(squares, name)) for name, module in found.items()]
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for example in progress(examples):
            ids = torch.tensor([list(example["input_ids"])], device=device)
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    if not squares:
        raise PruningError("None of the modules was reached by the examples.")
    return {
        name: squares[name].sqrt() if name in squares else torch.zeros(_width(module), device=device)
        for name, module in found.items()
    }


def _width(module: nn.Module) -> int:
    weight: Any = module.weight
    return int(weight.shape[1] if isinstance(module, nn.Linear) else weight.shape[0])


def _adds_to(squares: dict[str, torch.Tensor], name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        states = args[0].reshape(-1, args[0].shape[-1]).float()
        total = states.square().sum(dim=0)
        squares[name] = squares[name] + total if name in squares else total

    return hook
