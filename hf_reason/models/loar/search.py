"""Which layers need how many groups (or heads): an evolutionary search of budgets and window layers at equal cost."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .calibration import example_loss, loar_that_routes
from .configuration import spread
from .model import LoAR

Candidate = tuple[tuple[int, ...], tuple[int, ...]]  # groups of each layer, layers with a window


@dataclass
class SearchResult:
    """What a search found.

    Attributes:
        budgets: Groups of each layer, the best that was found.
        window_layers: Layers with a window.
        loss: Its loss on the examples that the search did not see, nats a token.
        uniform_loss: That of equal budgets with the windows there were, on the same examples.
        better: Whether it beat the uniform budgets and the model's own, so that the model now has it.
        cost: Its attention scores relative to those of the uniform budgets, at the examples' mean length; at most 1.
        sensitivity: For each layer, how much the loss rises when it alone is cut to its budget.
        evaluated: Candidates whose loss was measured.
        history: The best loss on the examples of the search, after each generation.
    """

    budgets: list[int]
    window_layers: list[int]
    loss: float
    uniform_loss: float
    better: bool
    cost: float
    sensitivity: list[float]
    evaluated: int
    history: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        verdict = "better than" if self.loss < self.uniform_loss else "no better than"
        windows = f", windows on {self.window_layers}" if self.window_layers else ""
        return (
            f"budgets {self.budgets}{windows}: loss {self.loss:.4f}, {verdict} the uniform {self.uniform_loss:.4f} at "
            f"{'equal cost' if self.cost == 1 else f'{self.cost:.2f}x its cost'}, on records that the search did not "
            f"see ({self.evaluated} candidates); {'taken' if self.better else 'not taken'}"
        )


def search_budgets(
    model: Any,
    examples: Sequence[dict[str, Any]],
    *,
    population: int = 12,
    generations: int = 8,
    seed: int = 0,
    progress: Callable[[Any], Any] = iter,
) -> SearchResult:
    """Move groups between layers (and windows, if there are any) to lower the loss at the same cost.

    Where heads are routed, what is said here of groups holds for them.

    The first candidates are what the model has, the uniform budgets and those of a sensitivity pass, in which each
    layer alone is cut; the others are mutations (regularised evolution, Real et al. 2019, with the oldest dying). The
    number of groups and the number of windows stay what they are, and no candidate costs more than the uniform one: a
    layer's groups times the tokens that they look at. Every second example is for the search, the others judge what
    it found: the best of many candidates looks better than it is on the examples that chose it. The model gets it
    if it beats the uniform budgets and the model's own on those.

    Args:
        model: With a LoAR that has routers.
        examples: Encoded records (`input_ids`, `labels`), for validation; two or more.
        population: Candidates that are alive.
        generations: Times `population` new ones are tried.
        seed: Of the mutations.
        progress: Wraps the generations.

    Raises:
        ValueError: if there is nothing to search: no LoAR, static groups, one layer, or too few examples.
    """
    loar = loar_that_routes(model, "search_budgets")
    if len(examples) < 2 or len(loar.budgets) < 2:
        raise ValueError("search_budgets needs two validation examples or more, and two layers or more.")
    seen, unseen = examples[::2], examples[1::2]
    total, layers = sum(loar.budgets), len(loar.budgets)
    least = max(1, loar.config.shared_groups)
    windows = tuple(loar.window_layers) if loar.config.sliding_window is not None else ()
    rng, measured = random.Random(seed), dict[Candidate, float]()
    training, length = model.training, sum(len(example["input_ids"]) for example in examples) / len(examples)
    before: Candidate = (tuple(loar.budgets), windows)
    uniform: Candidate = (tuple(spread(total, layers)), windows)

    def put(candidate: Candidate) -> None:
        loar.set_budgets(candidate[0])
        if candidate[1]:
            loar.set_window_layers(candidate[1])

    def cost(candidate: Candidate) -> float:
        put(candidate)
        spans = [attention.loar.window or length for attention in loar._layers]
        return sum(k * min(span, length) for k, span in zip(candidate[0], spans, strict=True))

    def loss(candidate: Candidate) -> float:
        if candidate not in measured:
            put(candidate)
            measured[candidate] = _loss(model, seen)
        return measured[candidate]

    def judged(candidate: Candidate) -> float:
        put(candidate)
        return _loss(model, unseen)

    model.eval()
    try:
        limit = cost(uniform)
        full = _loss_at(loar, model, seen, (loar.units,) * layers)
        alone = [
            _loss_at(loar, model, seen, tuple(k if i == layer else loar.units for i, k in enumerate(uniform[0])))
            - full
            for layer in range(layers)
        ]
        first = (before, uniform, (_by_sensitivity(alone, total, loar.units, least), windows))
        alive = [candidate for candidate in dict.fromkeys(first) if cost(candidate) <= limit * (1 + 1e-9)]
        history = [min(map(loss, alive))]
        for _ in progress(range(generations)):
            for _ in range(population):
                parent = min(rng.sample(alive, min(3, len(alive))), key=loss)
                child = _mutated(parent, loar.units, least, layers, rng)
                if cost(child) > limit * (1 + 1e-9):
                    continue
                loss(child)
                alive.append(child)
                if len(alive) > population:
                    alive.pop(0)
            history.append(min(measured.values()))
        best = min(measured, key=lambda candidate: measured[candidate])
        found, uniform_loss = judged(best), judged(uniform)
        better = best != before and found < min(uniform_loss, judged(before))
        relative = cost(best) / limit
    except BaseException:
        put(before)
        raise
    finally:
        model.train(training)
    put(best if better else before)
    return SearchResult(
        list(best[0]), list(best[1]), found, uniform_loss, better, relative, alone, len(measured), history
    )


def _loss_at(loar: LoAR, model: Any, examples: Sequence[dict[str, Any]], budgets: tuple[int, ...]) -> float:
    loar.set_budgets(budgets)
    return _loss(model, examples)


def _loss(model: Any, examples: Sequence[dict[str, Any]]) -> float:
    """Mean loss of the examples' targets."""
    device = next(model.parameters()).device
    counts = [sum(label != -100 for label in example["labels"][1:]) for example in examples]
    total = sum(
        count * example_loss(model, example, device) for count, example in zip(counts, examples, strict=True) if count
    )
    return total / max(sum(counts), 1)


def _by_sensitivity(alone: Sequence[float], total: int, groups: int, least: int) -> tuple[int, ...]:
    """Groups in proportion to what a layer's cut costs, within the bounds."""
    found = [least] * len(alone)
    for _ in range(total - sum(found)):
        open_layers = [layer for layer in range(len(alone)) if found[layer] < groups]
        found[max(open_layers, key=lambda layer: max(alone[layer], 1e-9) / found[layer])] += 1
    return tuple(found)


def _mutated(parent: Candidate, groups: int, least: int, layers: int, rng: random.Random) -> Candidate:
    """Groups move to another layer (one, or up to a quarter of a layer's), or one window does."""
    budgets, windows = list(parent[0]), list(parent[1])
    if windows and len(windows) < layers and rng.random() < 0.3:
        windows.remove(rng.choice(windows))
        windows.append(
            rng.choice([layer for layer in range(layers) if layer not in windows and layer not in parent[1]])
        )
        return tuple(budgets), tuple(sorted(windows))
    givers = [layer for layer in range(layers) if budgets[layer] > least]
    takers = [layer for layer in range(layers) if budgets[layer] < groups]
    if givers and takers:
        giver = rng.choice(givers)
        taker = rng.choice([layer for layer in takers if layer != giver] or [giver])
        most = min(max(1, groups // 4), budgets[giver] - least, groups - budgets[taker])
        moved = rng.randint(1, most) if most > 1 else 1
        budgets[giver] -= moved
        budgets[taker] += moved
    return tuple(budgets), tuple(windows)
