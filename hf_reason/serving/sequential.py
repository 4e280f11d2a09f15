"""An always-valid test of two success rates: look after each outcome, stop when you like, and the error rate holds.

Outcomes are 0 or 1, and the arm of each was drawn at random: B with probability w. Let m be any guess of the common
rate and d any guess of the difference, both made before the outcome y is seen. With a = m - w d and b = m + (1 - w) d,

    E(d) = product of  p(y; b if the arm is B else a) / p(y; m),    p(y; r) = r^y (1 - r)^(1 - y)

is an e-process for "both arms have the same rate", whatever that rate is: its expected factor is
sum over y of p(y; r) [w p(y; b) + (1 - w) p(y; a)] / p(y; m) = sum over y of p(y; r) = 1, because
w p(y; b) + (1 - w) p(y; a) = p(y; m). This is the e-variable of Turner, Ly and Grünwald (2024, "Generic E-variables
for exact sequential k-sample tests that allow for optional stopping", J. Stat. Plan. Inference 230; arXiv:2106.02693)
for a block of one outcome with a random arm. Here m is the rate so far, and E the mean of E(d) over a grid of
differences (the method of mixtures: Robbins 1970, Ann. Math. Stat. 41). By Ville's inequality E ever reaches 1 / alpha
with probability at most alpha if the arms are equal; no approximation and no table is involved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log

import numpy as np

# Differences of the mixture: from small ones to all there is, each in both directions.
DIFFERENCES = np.array([0.02, 0.04, 0.08, 0.16, 0.32])
_GRID = np.concatenate([DIFFERENCES, -DIFFERENCES])
# A guessed rate stays this far from 0 and 1, so that no outcome is impossible.
_EDGE = 1e-3


@dataclass
class SequentialTest:
    """The test, fed with outcomes in the order in which they came. Holds 12 numbers a run, not the outcomes.

    Args:
        fraction: The probability w of arm B.
        runs: Independent runs side by side (for simulations).
    """

    fraction: float = 0.5
    runs: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(f"fraction must be between 0 and 1, not {self.fraction}: both arms need traffic.")
        self._log_e = np.zeros((self.runs, len(_GRID)))
        self._counts = np.zeros((self.runs, 2))  # successes, outcomes

    def extend(self, arms: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """Add outcomes.

        Args:
            arms: [runs, n] or [n]: whether the arm was B.
            outcomes: [runs, n] or [n]: 0 or 1.

        Returns:
            [runs, n]: log E after each of them.
        """
        arms, outcomes = np.atleast_2d(arms).astype(bool), np.atleast_2d(outcomes).astype(np.int64)
        if arms.shape != outcomes.shape or len(arms) != self.runs or not np.isin(outcomes, (0, 1)).all():
            raise ValueError("arms and outcomes must have the same shape, [runs, n], and outcomes be 0 or 1.")
        if not arms.size:
            return np.zeros(arms.shape)
        ones, seen = np.cumsum(outcomes, axis=1), np.arange(1, arms.shape[1] + 1)
        # the rate before each outcome, from those before it; one half for the first
        before = (self._counts[:, :1] + ones - outcomes + 0.5) / (self._counts[:, 1:] + seen - 1 + 1.0)
        rate = np.clip(before, 2 * _EDGE, 1 - 2 * _EDGE)
        path: np.ndarray = np.empty((len(_GRID), *arms.shape))
        for place, difference in enumerate(_GRID):
            steps = _log_factors(arms, outcomes, rate, difference, self.fraction)
            path[place] = self._log_e[:, place, None] + np.cumsum(steps, axis=1)
        self._log_e[:] = path[:, :, -1].T
        self._counts += np.stack([ones[:, -1], np.full(self.runs, arms.shape[1])], axis=1)
        top = path.max(axis=0)
        result: np.ndarray = top + np.log(np.mean(np.exp(path - top), axis=0))
        return result


def _log_factors(
    arms: np.ndarray, outcomes: np.ndarray, rate: np.ndarray, difference: float, fraction: float
) -> np.ndarray:
    """log p(y; the arm's rate) / p(y; m) of each outcome; the difference is cut to what the rate allows."""
    up, down = (1 - fraction), fraction
    if difference > 0:
        most = np.minimum((1 - _EDGE - rate) / up, (rate - _EDGE) / down)
        cut = np.minimum(difference, most)
    else:
        most = np.minimum((rate - _EDGE) / up, (1 - _EDGE - rate) / down)
        cut = -np.minimum(-difference, most)
    moved = np.where(arms, rate + up * cut, rate - down * cut)
    factors: np.ndarray = np.where(outcomes == 1, np.log(moved / rate), np.log((1 - moved) / (1 - rate)))
    return factors


def confidence_sequence(successes: int, outcomes: int, alpha: float = 0.05) -> tuple[float, float]:
    """An interval for a success rate that holds at all times together with probability 1 - alpha.

    The rates r with `B(1/2 + s, 1/2 + f) / B(1/2, 1/2) / (r^s (1 - r)^f) < 1 / alpha`, s and f the successes and
    failures: the beta-binomial mixture (Robbins 1970) with Jeffreys' prior, and Ville's inequality.

    Returns:
        Lower and upper end; (0, 1) without outcomes.
    """
    fails = outcomes - successes
    if not 0 <= successes <= outcomes:
        raise ValueError(f"{successes} successes of {outcomes} outcomes cannot be.")
    mixture = lgamma(successes + 0.5) + lgamma(fails + 0.5) - lgamma(outcomes + 1.0) - 2 * lgamma(0.5)

    def inside(rate: float) -> bool:
        if (rate <= 0 and successes) or (rate >= 1 and fails):
            return False
        likelihood = (successes * log(rate) if successes else 0.0) + (fails * log(1 - rate) if fails else 0.0)
        return mixture - likelihood < -log(alpha)

    best = successes / outcomes if outcomes else 0.5
    return _edge(inside, best, 0.0), _edge(inside, best, 1.0)


def _edge(inside: Callable[[float], bool], known: float, end: float) -> float:
    """Where the interval ends between a rate inside it and `end`, by bisection, rounded outwards."""
    if inside(end):
        return end
    low, high = known, end
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) else (low, middle)
    return high
