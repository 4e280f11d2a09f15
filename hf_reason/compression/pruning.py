"""Unstructured and 2:4 pruning: the weakest weights of the chosen matrices become zeros.

The shapes stay. Zeros save nothing by themselves: a sparse format, a 2:4 kernel or a compressed file uses them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from .errors import PruningError
from .projections import projections

SCOPES = ("row", "matrix", "global")
_GROUP, _KEPT = 4, 2


@dataclass(frozen=True)
class PruningResult:
    """What was pruned.

    Attributes:
        weights: Weights of the chosen matrices.
        zeros: How many of them are zero now.
        by_module: Full name -> fraction of zeros.
        settings: `ratio`, `modules`, `score`, `scope`, `pattern`.
    """

    weights: int
    zeros: int
    by_module: dict[str, float]
    settings: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Zeros / weights."""
        return self.zeros / self.weights


@torch.no_grad()
def prune_weights(
    model: Any,
    ratio: float = 0.2,
    *,
    modules: str = "attention",
    scope: str = "matrix",
    pattern: str | None = None,
    norms: Mapping[str, torch.Tensor] | None = None,
) -> PruningResult:
    """Set the weights with the lowest scores to zero, in place and for good.

    The score of a weight is its absolute value, or with `norms` that times the norm of its input: Wanda, M. Sun et al.
    2023, arXiv 2306.11695, who compare within a row (`scope="row"`).

    Args:
        model: A causal language model with plain weights.
        ratio: Fraction of the weights that become zero; of a matrix with n weights round(ratio * n), exactly. Weights
            that are zero already count.
        modules: `attention`, `feed_forward` or `all` (the linear modules inside layers).
        scope: What is compared: the weights of a `row` (of one output), of a `matrix`, or of all matrices (`global`,
            which may leave little of one of them: see `by_module`).
        pattern: `2:4`: of each 4 consecutive weights of a row the 2 lowest, whatever `ratio` and `scope` say; what
            sparse tensor cores read.
        norms: Of `input_norms`, for the same modules.

    Returns:
        The counts.

    Raises:
        PruningError: if the model cannot be pruned or a setting does not fit. Nothing has changed then.
    """
    found = projections(model, modules)
    _check(ratio, scope, pattern, found, norms)
    scores = {name: _score(module, None if norms is None else norms[name]) for name, module in found.items()}
    if pattern is not None:
        keep = {name: _two_of_four(score) for name, score in scores.items()}
    elif scope == "global":
        keep = _keep_global(scores, ratio)
    else:
        keep = {name: _keep_highest(score, ratio, by_row=scope == "row") for name, score in scores.items()}
    for name, module in found.items():
        mask = keep[name].T if not isinstance(module, nn.Linear) else keep[name]
        prune.custom_from_mask(module, "weight", mask)
        prune.remove(module, "weight")
    settings = {"ratio": ratio if pattern is None else _KEPT / _GROUP, "modules": modules, "scope": scope}
    return _counted(found, {**settings, "pattern": pattern, "score": "magnitude" if norms is None else "activations"})


def pruned_fraction(model: Any, modules: str = "attention") -> float:
    """Zeros / weights of the chosen matrices."""
    return _counted(projections(model, modules), {}).ratio


def _counted(found: Mapping[str, nn.Module], settings: dict[str, Any]) -> PruningResult:
    weights: dict[str, Any] = {name: module.weight for name, module in found.items()}
    zeros = {name: int((weight == 0).sum()) for name, weight in weights.items()}
    fractions = {name: zeros[name] / weight.numel() for name, weight in weights.items()}
    return PruningResult(sum(w.numel() for w in weights.values()), sum(zeros.values()), fractions, settings)


def _check(
    ratio: float,
    scope: str,
    pattern: str | None,
    found: Mapping[str, nn.Module],
    norms: Mapping[str, torch.Tensor] | None,
) -> None:
    if not 0 < ratio < 1:
        raise PruningError(f"ratio is a fraction between 0 and 1, got {ratio}.")
    if scope not in SCOPES:
        raise PruningError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}.")
    if pattern not in (None, "2:4"):
        raise PruningError(f"pattern must be 2:4 or left out, got {pattern!r}.")
    if norms is not None and (missing := [name for name in found if name not in norms]):
        raise PruningError(
            f"norms has nothing for {missing[0]} and {len(missing) - 1} more: take input_norms of the same modules."
        )
    if pattern is not None:
        for name, module in found.items():
            if (width := _matrix(module).shape[1]) % _GROUP:
                raise PruningError(f"{name} has {width} inputs, which the pattern {pattern} cannot divide.")


def _matrix(module: nn.Module) -> torch.Tensor:
    """The weight as `(outputs, inputs)`."""
    weight: Any = module.weight
    return weight if isinstance(module, nn.Linear) else weight.T  # type: ignore[no-any-return]


def _score(module: nn.Module, norms: torch.Tensor | None) -> torch.Tensor:
    """`(outputs, inputs)`, float32; a weight that is zero already comes first."""
    weight = _matrix(module)
    score = weight.detach().abs().float()
    if norms is not None:
        score = score * norms.to(score)
    return torch.where(weight == 0, -1.0, score)


def _keep_highest(score: torch.Tensor, ratio: float, *, by_row: bool) -> torch.Tensor:
    rows = score if by_row else score.reshape(1, -1)
    count = round(ratio * rows.shape[1])
    keep = torch.ones_like(rows, dtype=torch.bool)
    # by rank and not by a threshold: weights of equal size would fall together, and the number would not be exact
    keep.scatter_(1, rows.argsort(dim=1, stable=True)[:, :count], False)
    return keep.reshape(score.shape)


def _keep_global(scores: Mapping[str, torch.Tensor], ratio: float) -> dict[str, torch.Tensor]:
    device = next(iter(scores.values())).device
    together = torch.cat([score.flatten().to(device) for score in scores.values()])
    flat = _keep_highest(together, ratio, by_row=False)
    parts = flat.split([score.numel() for score in scores.values()])
    return {
        name: part.reshape(score.shape).to(score.device)
        for part, (name, score) in zip(parts, scores.items(), strict=True)
    }


def _two_of_four(score: torch.Tensor) -> torch.Tensor:
    groups = score.reshape(score.shape[0], -1, _GROUP)
    keep = torch.zeros_like(groups, dtype=torch.bool)
    keep.scatter_(2, groups.argsort(dim=2, stable=True)[..., _GROUP - _KEPT :], True)
    return keep.reshape(score.shape)
