"""One experiment: its settings, and the arm of each user."""

from dataclasses import dataclass
from typing import Literal

from hf_reason._files import digest

Arm = Literal["A", "B"]
Status = Literal["running", "promoted", "rolled_back"]


class ExperimentError(ValueError):
    """An experiment that cannot be made, found or ended like this. The message says why, and what to do."""


@dataclass(frozen=True)
class Experiment:
    """An experiment as it is stored.

    Attributes:
        name: Its own.
        model: The served name whose requests it divides.
        version_a, version_b: The version in use, and the one that may replace it.
        fraction: Of the users, who get version B.
        alpha: Probability of a false difference.
        salt: Makes the assignment of users independent of that in other experiments.
        status: `running`, `promoted` (all get B) or `rolled_back` (all get A).
        started, ended: Seconds since 1970; `ended` is `None` while it runs.
    """

    name: str
    model: str
    version_a: str
    version_b: str
    fraction: float
    alpha: float
    salt: str
    status: Status
    started: float
    ended: float | None

    def arm(self, unit: str) -> Arm:
        """The arm of a user: the same at all times and in all processes."""
        drawn = int(digest(self.salt, "\x1f", unit.encode("utf-8", "surrogatepass")), 16)
        return "B" if drawn < self.fraction * 2.0**64 else "A"


@dataclass(frozen=True)
class Assignment:
    """Who answers a request.

    Attributes:
        version: The version to use; `None`: no experiment was ever made with this model, use its own.
        arm: `A` or `B`; empty if none is running.
        experiment: Its name; empty if none is running.
    """

    version: str | None = None
    arm: Arm | Literal[""] = ""
    experiment: str = ""
