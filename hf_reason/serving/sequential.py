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

from dataclasses import dataclass
from math import ceil, lgamma, log

import numpy as np

# Differences of the mixture: from small ones to all there is, each in both directions.
DIFFERENCES = np.array([0.02, 0.04, 0.08, 0.16, 0.32])
_GRID = np.concatenate([DIFFERENCES, -DIFFERENCES])
# A guessed rate stays this far from 0 and 1, so that no outcome is impossible.
_EDGE = 1e-3
# Outcomes of a simulation that are worked out at once.
_CHUNK = 250


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
    factors: np.ndarray = np.log(np.where(outcomes == 1, moved / rate, (1 - moved) / (1 - rate)))
    return factors


def _log_ratio(rates: np.ndarray, successes: int, outcomes: int) -> np.ndarray:
    """log of the beta-binomial mixture by the likelihood of each rate: a martingale at the true one."""
    fails = outcomes - successes
    mixture = lgamma(successes + 0.5) + lgamma(fails + 0.5) - lgamma(outcomes + 1.0) - 2 * lgamma(0.5)
    with np.errstate(divide="ignore"):
        likelihood = successes * np.log(rates) if successes else np.zeros_like(rates)
        likelihood = likelihood + (fails * np.log1p(-rates) if fails else 0.0)
    result: np.ndarray = mixture - likelihood
    return result


def _edges(successes: int, outcomes: int, levels: np.ndarray, end: float) -> np.ndarray:
    """Where `_log_ratio` reaches each level between the observed rate and `end`, by bisection, rounded outwards."""
    inside = np.full_like(levels, successes / outcomes if outcomes else 0.5)
    outside = np.full_like(levels, end)
    whole = _log_ratio(outside, successes, outcomes) < levels
    for _ in range(40):
        middle = (inside + outside) / 2
        within = _log_ratio(middle, successes, outcomes) < levels
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    result: np.ndarray = np.where(whole, end, outside)
    return result


def confidence_sequence(successes: int, outcomes: int, alpha: float = 0.05) -> tuple[float, float]:
    """An interval for a success rate that holds at all times together with probability 1 - alpha.

    The rates r with `B(1/2 + s, 1/2 + f) / B(1/2, 1/2) / (r^s (1 - r)^f) < 1 / alpha`, s and f the successes and
    failures: the beta-binomial mixture (Robbins 1970) with Jeffreys' prior, and Ville's inequality.

    Returns:
        Lower and upper end; (0, 1) without outcomes.
    """
    if not 0 <= successes <= outcomes:
        raise ValueError(f"{successes} successes of {outcomes} outcomes cannot be.")
    level = np.array([-log(alpha)])
    return float(_edges(successes, outcomes, level, 0.0)[0]), float(_edges(successes, outcomes, level, 1.0)[0])


def difference_sequence(
    successes: tuple[int, int], outcomes: tuple[int, int], alpha: float = 0.05
) -> tuple[float, float]:
    """An interval for the rate of B minus that of A that holds at all times together with probability 1 - alpha.

    The product of both arms' ratios (`confidence_sequence`) is a martingale at the true pair of rates, so the pairs at
    which it is below 1 / alpha are a confidence sequence for the pair; the interval is what their differences span.

    Args:
        successes, outcomes: Of A and of B.
    """
    (right_a, right_b), (all_a, all_b) = successes, outcomes
    # the least that B adds: B's own rate may be anywhere, so A's can be a little outside its own interval
    least = float(_log_ratio(np.array([right_b / all_b if all_b else 0.5]), right_b, all_b)[0])
    widest = np.array([-log(alpha) - least])
    low, high = _edges(right_a, all_a, widest, 0.0)[0], _edges(right_a, all_a, widest, 1.0)[0]
    rates = np.append(np.linspace(low, high, 513), right_a / all_a if all_a else 0.5)
    with np.errstate(invalid="ignore"):
        levels = -log(alpha) - _log_ratio(rates, right_a, all_a)
    rates, levels = rates[levels > least], levels[levels > least]
    top, bottom = _edges(right_b, all_b, levels, 1.0) - rates, _edges(right_b, all_b, levels, 0.0) - rates
    return float(bottom.min()), float(top.max())


@dataclass(frozen=True)
class Simulation:
    """What a test does in simulated runs.

    Attributes:
        decided: Fraction of the runs that came to a decision: the error rate if the rates are equal, else the power.
        mean_outcomes: Outcomes until the decision; a run without one counts with all of its outcomes.
        quantiles: 50% and 90% of the runs are decided within so many; `None` if fewer are decided at all.
    """

    decided: float
    mean_outcomes: float
    quantiles: tuple[int | None, int | None]


def simulate(
    rate_a: float,
    rate_b: float,
    *,
    fraction: float = 0.5,
    alpha: float = 0.05,
    runs: int = 2000,
    max_outcomes: int = 5000,
    seed: int = 0,
) -> Simulation:
    """Run the test on simulated outcomes, looked at after each one. Plans an experiment: how many users will it need?

    Args:
        rate_a, rate_b: The true success rates.
        fraction, alpha: As in an experiment.
        runs: Simulated experiments.
        max_outcomes: Where a run ends without a decision.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    test = SequentialTest(fraction, runs)
    first = np.full(runs, max_outcomes + 1)
    for start in range(0, max_outcomes, _CHUNK):
        size = (runs, min(_CHUNK, max_outcomes - start))
        arms = random.random(size) < fraction
        outcomes = random.random(size) < np.where(arms, rate_b, rate_a)
        hits = test.extend(arms, outcomes) >= -log(alpha)
        first = np.minimum(first, np.where(hits.any(axis=1), start + hits.argmax(axis=1) + 1, first))
        if (first <= max_outcomes).all():
            break
    ordered = np.sort(first)
    quantiles = [int(ordered[ceil(part * runs) - 1]) for part in (0.5, 0.9)]
    return Simulation(
        float((first <= max_outcomes).mean()),
        float(np.minimum(first, max_outcomes).mean()),
        tuple(None if value > max_outcomes else value for value in quantiles),  # type: ignore[arg-type]
    )
