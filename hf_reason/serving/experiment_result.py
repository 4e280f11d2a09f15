"""What the outcomes of an experiment say: rates, evidence, and the decision that they allow."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .sequential import SequentialTest, confidence_sequence, difference_sequence


@dataclass(frozen=True)
class ArmResult:
    """One arm.

    Attributes:
        version: Of the model.
        successes, outcomes: Counts of users.
        rate: `successes / outcomes`; `None` without outcomes.
        interval: 95% (1 - alpha) confidence sequence of the rate: it holds at all times together.
    """

    version: str
    successes: int
    outcomes: int
    rate: float | None
    interval: tuple[float, float]


@dataclass(frozen=True)
class Result:
    """What is known so far.

    Attributes:
        name, status: Of the experiment.
        a, b: The arms.
        difference: Rate of B minus rate of A; `None` while an arm has no outcome.
        difference_interval: Its confidence sequence (`difference_sequence`). It is a little less sharp than the test:
            it can hold 0 a while after the test has decided.
        e_value: Evidence against equal rates now; `max_e_value`: the most there ever was.
        p_value: Valid at all times: `min(1, 1 / max_e_value)`.
        alpha: The level at which it is decided.
        better: `A`, `B`, or `None` while nothing is decided. A decision stays.
        decided_at: After how many outcomes.
        sources: Outcomes by where they come from.
    """

    name: str
    status: str
    a: ArmResult
    b: ArmResult
    difference: float | None
    difference_interval: tuple[float, float]
    e_value: float
    max_e_value: float
    p_value: float
    alpha: float
    better: Literal["A", "B"] | None
    decided_at: int | None
    sources: dict[str, int]

    @property
    def outcomes(self) -> int:
        return self.a.outcomes + self.b.outcomes

    @property
    def summary(self) -> str:
        """One line."""
        if self.better:
            better, other = (self.b, self.a) if self.better == "B" else (self.a, self.b)
            verdict = f"{better.version} is better than {other.version}, decided after {self.decided_at} outcomes"
        else:
            verdict = "no difference is shown yet"
        return f"{verdict}; p = {self.p_value:.3g}, {self.outcomes} outcomes"


class Progress:
    """The test of one experiment, fed with rows of its outcomes as they come.

    Args:
        fraction, alpha: The experiment's.
    """

    def __init__(self, fraction: float, alpha: float) -> None:
        self.alpha, self.last = alpha, 0
        self._test = SequentialTest(fraction)
        self._log_e = self._max_log_e = 0.0
        self._counts = np.zeros((2, 2), dtype=np.int64)  # [arm, (failures, successes)]
        self._better: Literal["A", "B"] | None = None
        self._decided_at: int | None = None
        self._sources: Counter[str] = Counter()

    def extend(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Add rows of (id, arm, outcome, source) in order; returns log E after each."""
        arms = np.array([row[1] == "B" for row in rows])
        outcomes = np.array([row[2] for row in rows])
        path: np.ndarray = self._test.extend(arms, outcomes)[0]
        if self._better is None and (hits := np.flatnonzero(path >= -math.log(self.alpha))).size:
            until = int(hits[0]) + 1
            counts = self._counts + _counted(arms[:until], outcomes[:until])
            rates = counts[:, 1] / np.maximum(counts.sum(axis=1), 1)
            self._better = "B" if rates[1] > rates[0] else "A"
            self._decided_at = int(counts.sum())
        self._counts += _counted(arms, outcomes)
        self._log_e, self._max_log_e = float(path[-1]), max(self._max_log_e, float(path.max()))
        self._sources.update(row[3] for row in rows)
        self.last = int(rows[-1][0])
        return path

    def counts(self) -> np.ndarray:
        """[2, 2]: failures and successes of A and of B."""
        return self._counts.copy()

    def result(self, name: str, status: str, version_a: str, version_b: str) -> Result:
        a, b = (self._arm(number, version) for number, version in enumerate((version_a, version_b)))
        return Result(
            name=name,
            status=status,
            a=a,
            b=b,
            difference=None if a.rate is None or b.rate is None else b.rate - a.rate,
            difference_interval=difference_sequence((a.successes, b.successes), (a.outcomes, b.outcomes), self.alpha),
            e_value=_exp(self._log_e),
            max_e_value=_exp(self._max_log_e),
            p_value=min(1.0, math.exp(-self._max_log_e)),
            alpha=self.alpha,
            better=self._better,
            decided_at=self._decided_at,
            sources=dict(self._sources),
        )

    def _arm(self, number: int, version: str) -> ArmResult:
        successes, outcomes = int(self._counts[number, 1]), int(self._counts[number].sum())
        rate = successes / outcomes if outcomes else None
        return ArmResult(version, successes, outcomes, rate, confidence_sequence(successes, outcomes, self.alpha))


def _counted(arms: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.bincount(2 * arms + outcomes, minlength=4).reshape(2, 2)
    return counts


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # JSON has no infinity
