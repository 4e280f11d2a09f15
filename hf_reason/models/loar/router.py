"""The routers: which groups or heads of a layer work on a sequence, read from its prompt."""

from dataclasses import dataclass

import torch
from torch import nn

from .configuration import LoARConfig
from .heads import HeadChoice


@dataclass
class Route:
    """The choice of one layer for one pass.

    Attributes:
        count: Groups of the layer, or heads where those are routed.
        window: Tokens that the layer sees, or `None`.
        groups: `(batch, k)`, ascending; `None`: all work, or `gates` says which.
        heads: The working heads, where those are routed; `groups` are then the ones that they read.
        gates: `(batch, count)`: 1 where a group works, 0 elsewhere, with the router's gradient; in training.
        present: `(batch, tokens)` bool: where there is a token, past ones included; `None`: everywhere.
        sliced: Whether the projections of this pass hold what works only.
    """

    count: int
    window: int | None = None
    groups: torch.Tensor | None = None
    heads: HeadChoice | None = None
    gates: torch.Tensor | None = None
    present: torch.Tensor | None = None
    sliced: bool = False


class Router(nn.Module):
    """Scores of a layer's groups from the mean of the prompt's states: one linear layer, in float32.

    What it reads is divided by the root of its width. A step of Adam moves each weight by the learning rate; without
    that, hundreds of them together would turn the choice over in a few steps, faster than the groups can follow.

    Parameters and no `nn.Linear`: PEFT's `target_modules="all-linear"` is not meant for routers.
    """

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, width) * 0.02 * width**0.5)
        self.bias = nn.Parameter(torch.zeros(groups))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(batch, width)` to scores `(batch, groups)`, whose sigmoid is the probability."""
        read = pooled.float().to(self.weight.device) / pooled.shape[-1] ** 0.5
        with torch.autocast(read.device.type, enabled=False):
            return nn.functional.linear(read, self.weight.float(), self.bias.float()).to(pooled.device)


class _Balance(torch.autograd.Function):
    """Hands its first argument on, and gives the second a gradient of its own: a loss that needs no trainer."""

    @staticmethod
    def forward(ctx, states: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
        ctx.dtype, ctx.shape = loss.dtype, loss.shape
        return states

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
        return gradient, torch.ones(ctx.shape, dtype=ctx.dtype, device=gradient.device)


def with_loss(states: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
    """`states`; their backward pass adds the gradient of `loss` to that of the training's."""
    return _Balance.apply(states, loss)  # type: ignore[no-any-return]


def choose_groups(scores: torch.Tensor, budget: int, shared: torch.Tensor) -> torch.Tensor:
    """The groups that work: the shared ones, and the best of the others.

    Args:
        scores: `(batch, groups)`; not probabilities, which are equal at the ends of their range.
        budget: How many work in all.
        shared: Numbers of those that always do, `(s,)`.

    Returns:
        `(batch, budget)`, ascending.
    """
    scores = scores.detach().index_fill(1, shared.to(scores.device), torch.inf)
    return scores.topk(budget, dim=1).indices.sort(dim=1).values


def straight_through(probabilities: torch.Tensor, groups: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Gates `(batch, groups)` of 0 and 1 whose gradient is that of the probabilities (Bengio et al. 2013).

    The shared groups, which are not routed, have none.
    """
    hard = torch.zeros_like(probabilities).scatter(1, groups, 1.0)
    soft = torch.where(_routed(probabilities, shared), probabilities, probabilities.detach())
    return hard + (soft - soft.detach())  # in this order the sum is exactly 0 or 1


def balance_term(probabilities: torch.Tensor, usage: torch.Tensor, budget: int, shared: torch.Tensor) -> torch.Tensor:
    """How much the router leans on the groups that are used most, `(batch,)`.

    The term of Switch transformers (Fedus et al. 2022) with the running usage in the place of the batch's own:
    `n / b * sum_g usage_g * p_g` over the `n` groups that are routed, `b` of which work. It is linear in the
    sequences, so gradient accumulation changes nothing.
    """
    routed = _routed(probabilities, shared)
    free = max(budget - len(shared), 1)
    return (
        (probabilities * usage.to(probabilities.device) * routed).sum(dim=1)
        * (int(probabilities.shape[1]) - len(shared))
        / free
    )


def _routed(probabilities: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """`(groups,)`: which groups are not shared."""
    every = torch.ones(probabilities.shape[1], dtype=torch.bool, device=probabilities.device)
    return every.index_fill(0, shared.to(every.device), False)


class Routers(nn.Module):
    """All routers of a model, the task embeddings, and the running usage of the groups.

    Args:
        config: LoAR's.
        width: Of the hidden states.
        layers: Number of layers.
        groups: Groups of a layer, or heads where those are routed.
    """

    usage: torch.Tensor
    shared: torch.Tensor  # the groups of each layer that always work, `(layers, shared_groups)`

    def __init__(self, config: LoARConfig, width: int, layers: int, groups: int):
        super().__init__()
        self.routers = nn.ModuleList(Router(width, groups) for _ in range(layers))
        # of the size of a normalised state (that of `nn.Embedding`): weights and embeddings that both start at 0 would
        # both have no gradient
        self.tasks = nn.Embedding(len(config.task_names), width) if config.task_names else None
        self.register_buffer("usage", torch.full((layers, groups), 0.5))
        self.register_buffer("shared", torch.arange(min(config.shared_groups, groups)).repeat(layers, 1))
