"""How much better each step of a chain is than those it is compared with, and that on the step's tokens."""

import math
import statistics
from collections.abc import Sequence

import torch

Verdicts = Sequence[float | None]

# As in TRL's advantages: keeps a group of equal values from dividing by 0.
EPSILON = 1e-4
# How fast the running mean forgets: a generation batch counts half after 14 further ones.
DECAY = 0.95
# Least standard deviation of the running mean: where nearly all steps are right, a wrong one weighs no more than 10.
LEAST_DEVIATION = 0.1


def advantages_by_depth(group: Sequence[Verdicts], scale: bool) -> list[list[float]]:
    """The advantage of each step over the steps at the same depth of a group's other chains.

    `A[i][k] = (v[i][k] - mean_k) / (std_k + 1e-4)`, with mean and standard deviation (unbiased, as in TRL) over the
    chains of the group that have a verdict on their k-th step.

    Args:
        group: The verdicts (in [0, 1], or `None`) on each chain's steps.
        scale: Whether to divide by the standard deviation.

    Returns:
        A number for each step; 0 where there is no verdict, or nothing to compare it with.
    """
    found = [[0.0] * len(verdicts) for verdicts in group]
    for depth in range(max(map(len, group), default=0)):
        rows = [row for row, chain in enumerate(group) if depth < len(chain) and chain[depth] is not None]
        values = [float(group[row][depth]) for row in rows]  # type: ignore[arg-type]
        if len(values) < 2:
            continue
        mean, unit = statistics.fmean(values), (statistics.stdev(values) + EPSILON if scale else 1.0)
        for row, value in zip(rows, values, strict=True):
            found[row][depth] = (value - mean) / unit
    return found


class RunningMean:
    """Mean and standard deviation of all verdicts of a run, of which older ones count less.

    Attributes:
        count: Weight of the verdicts so far.
        total: Their weighted sum.
        squares: The weighted sum of their squares.
    """

    def __init__(self) -> None:
        self.count = self.total = self.squares = 0.0

    def update(self, chains: Sequence[Verdicts]) -> None:
        """Forget a little, and add a generation batch."""
        values = [value for chain in chains for value in chain if value is not None]
        self.count = DECAY * self.count + len(values)
        self.total = DECAY * self.total + sum(values)
        self.squares = DECAY * self.squares + sum(value * value for value in values)

    def advantages(self, chains: Sequence[Verdicts], scale: bool) -> list[list[float]]:
        """`(v - mean) / max(std, 0.1)` of each step; 0 where there is no verdict, and before the first `update`."""
        if not self.count:
            return [[0.0] * len(chain) for chain in chains]
        mean = self.total / self.count
        deviation = math.sqrt(max(self.squares / self.count - mean * mean, 0.0))
        unit = max(deviation, LEAST_DEVIATION) if scale else 1.0
        return [[0.0 if value is None else (value - mean) / unit for value in chain] for chain in chains]


def on_tokens(step_ids: Sequence[int], advantages: Sequence[float], length: int) -> torch.Tensor:
    """The advantages of a chain's steps on its tokens.

    Args:
        step_ids: One a token: 1..n, n + 1 the answer.
        advantages: Of the n steps.
        length: Of the padded row.

    Returns:
        float32 `(length,)`; 0 on the answer and on the padding.
    """
    table = torch.tensor([0.0, *advantages, 0.0])
    row = torch.zeros(length)
    row[: len(step_ids)] = table[torch.tensor(step_ids, dtype=torch.long)]
    return row
