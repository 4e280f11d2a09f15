"""Two versions of a model side by side: who gets which, what came of it, and when the difference is real.

    experiments = Experiments("experiments.db")
    experiments.start("round2", model="base", version_a="round1", version_b="round2", fraction=0.2)
    assignment = experiments.assign("base", user)      # at each request: which version answers
    experiments.record("round2", user, outcome)        # 1 or 0, from feedback or a known answer
    if experiments.result("round2").better == "B":
        experiments.promote("round2")                  # from here on all get version B; roll_back: version A

The state is a SQLite file: several processes use it at once, and it survives a restart.
"""

import os
import re
import secrets
import sqlite3
import threading
import time
from pathlib import Path

from hf_reason._files import digest

from .experiment import Arm, Assignment, Experiment, ExperimentError, Status
from .experiment_result import Progress, Result
from .sqlite import Database

__all__ = ["Arm", "Assignment", "Experiment", "ExperimentError", "Experiments", "Status"]

# "hrex" in ASCII
_APPLICATION_ID = 0x68726578
_NAME = re.compile(r"[\w.:-]{1,100}")
_MAX_UNIT = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS experiments (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, model TEXT NOT NULL, version_a TEXT NOT NULL,
    version_b TEXT NOT NULL, fraction REAL NOT NULL, alpha REAL NOT NULL, salt TEXT NOT NULL, status TEXT NOT NULL,
    started REAL NOT NULL, ended REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS one_running ON experiments (model) WHERE status = 'running';
CREATE TABLE IF NOT EXISTS outcomes (
    id INTEGER PRIMARY KEY AUTOINCREMENT, experiment TEXT NOT NULL, unit TEXT NOT NULL, arm TEXT NOT NULL,
    outcome INTEGER NOT NULL CHECK (outcome IN (0, 1)), source TEXT NOT NULL, time REAL NOT NULL,
    UNIQUE (experiment, unit)
);
CREATE INDEX IF NOT EXISTS outcomes_in_order ON outcomes (experiment, id);
"""
_COLUMNS = ("name", "model", "version_a", "version_b", "fraction", "alpha", "salt", "status", "started", "ended")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM experiments"

_OUTCOMES = "SELECT id, arm, outcome, source FROM outcomes WHERE experiment = ? AND id > ? ORDER BY id LIMIT 10000"


class Experiments:
    """The experiments in a file. All methods may be called from several threads and processes.

    Args:
        path: The file; it and its folder are made.

    Raises:
        ExperimentError: if the file is something else, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._progress: dict[str, Progress] = {}
        self._lock = threading.Lock()
        try:
            self._database = Database(self.path, _SCHEMA, application_id=_APPLICATION_ID)
        except (sqlite3.Error, ValueError) as error:
            raise ExperimentError(f"{self.path} cannot hold experiments: {error}. Give another file.") from error

    def start(
        self, name: str, *, model: str, version_a: str, version_b: str, fraction: float = 0.5, alpha: float = 0.05
    ) -> Experiment:
        """Begin an experiment. Its settings are fixed: to change the fraction, end it and start another one.

        Raises:
            ExperimentError: if the name is taken, another experiment runs on this model, `version_a` is not the
                version that an earlier one left in use, or a setting is impossible.
        """
        if not _NAME.fullmatch(name):
            raise ExperimentError(f"{name!r} is no name: use letters, digits and _ . : - (at most 100).")
        if version_a == version_b:
            raise ExperimentError(f"version_a and version_b are both {version_a!r}: there is nothing to compare.")
        for label, value in (("fraction", fraction), ("alpha", alpha)):
            if not 0 < value < 1:
                raise ExperimentError(f"{label} must be between 0 and 1, not {value}.")
        values = (name, model, version_a, version_b, fraction, alpha, secrets.token_hex(16), "running", time.time())
        with self._database.write() as connection:
            if connection.execute("SELECT 1 FROM experiments WHERE name = ?", (name,)).fetchone():
                raise ExperimentError(f"There is an experiment {name!r} already. Give another name.")
            found = connection.execute(f"{_SELECT} WHERE model = ? ORDER BY number DESC LIMIT 1", (model,)).fetchone()
            if found is not None:
                _check_follows(Experiment(*found), version_a)
            connection.execute(
                f"INSERT INTO experiments ({', '.join(_COLUMNS[:-1])}) VALUES (?,?,?,?,?,?,?,?,?)", values
            )
        return self.get(name)

    def get(self, name: str) -> Experiment:
        """An experiment.

        Raises:
            ExperimentError: if there is none of this name; the message lists those that there are.
        """
        rows = self._database.read(f"{_SELECT} WHERE name = ?", (name,))
        if not rows:
            names = ", ".join(each.name for each in self.all()) or "none yet"
            raise ExperimentError(f"There is no experiment {name!r}. There are: {names}.")
        return Experiment(*rows[0])

    def all(self) -> list[Experiment]:
        """All experiments, the oldest first."""
        return [Experiment(*row) for row in self._database.read(f"{_SELECT} ORDER BY number")]

    def assign(self, model: str, unit: str) -> Assignment:
        """Which version answers a request.

        Args:
            model: The name that the request asks for.
            unit: The user, who then has the same version at every request; the request's own id if the user is not
                known.
        """
        rows = self._database.read(f"{_SELECT} WHERE model = ? ORDER BY number DESC LIMIT 1", (model,))
        if not rows:
            return Assignment()
        found = Experiment(*rows[0])
        if found.status != "running":
            return Assignment(found.version_b if found.status == "promoted" else found.version_a)
        arm = found.arm(unit)
        return Assignment(found.version_b if arm == "B" else found.version_a, arm, found.name)

    def record(self, name: str, unit: str, outcome: int, source: str = "feedback") -> bool:
        """Store an outcome of a user.

        The first of each user counts, because the test needs outcomes that are independent of each other. The arm is
        the user's own.

        Args:
            name: The experiment.
            unit: As in `assign`.
            outcome: 1 for a success, 0 for none (`outcome_of_feedback`, `outcome_of_answer`).
            source: Where it comes from, for the report.

        Returns:
            Whether it counts: not for a user who has an outcome, nor after the experiment's end.

        Raises:
            ExperimentError: if there is no such experiment, or the outcome is neither 0 nor 1.
        """
        if outcome not in (0, 1):
            raise ExperimentError(f"An outcome is 0 or 1, not {outcome!r}.")
        if not unit or len(unit) > _MAX_UNIT:
            raise ExperimentError(f"unit must have 1 to {_MAX_UNIT} characters.")
        found = self.get(name)
        # hashed: the file needs to know whether a user was here, not who it was
        key = digest(found.salt, "unit\x1f", unit.encode("utf-8", "surrogatepass"), size=16)
        with self._database.write() as connection:
            done = connection.execute(
                "INSERT OR IGNORE INTO outcomes (experiment, unit, arm, outcome, source, time) "
                "SELECT ?, ?, ?, ?, ?, ? WHERE EXISTS "
                "(SELECT 1 FROM experiments WHERE name = ? AND status = 'running')",
                (name, key, found.arm(unit), int(outcome), source, time.time(), name),
            )
        return done.rowcount == 1

    def record_preference(self, name: str, unit: str, preferred: Arm) -> bool:
        """Store which of two answers, shown side by side, a user preferred: a success if it was that of the own arm.

        Without a difference both arms succeed half the time, if the sides on which A and B are shown are drawn at
        random for each vote. A tie is not recorded.
        """
        if preferred not in ("A", "B"):
            raise ExperimentError(f"preferred is 'A' or 'B', not {preferred!r}.")
        return self.record(name, unit, int(preferred == self.get(name).arm(unit)), "preference")

    def result(self, name: str) -> Result:
        """What the outcomes say now. Asking as often as you like costs nothing (see `sequential`)."""
        found = self.get(name)
        with self._lock:
            progress = self._progress.setdefault(name, Progress(found.fraction, found.alpha))
            query = (
                "SELECT id, arm, outcome, source FROM outcomes WHERE experiment = ? AND id > ? ORDER BY id LIMIT 10000"
            )
            while rows := self._database.read(query, (name, progress.last)):
                progress.extend(rows)
            return progress.result(found.name, found.status, found.version_a, found.version_b)

    def promote(self, name: str, *, force: bool = False) -> Experiment:
        """Give version B to all from now on.

        Args:
            name: The experiment.
            force: Also without evidence that B is better.

        Raises:
            ExperimentError: if it has ended, or nothing shows that B is better and `force` is not set.
        """
        result = self.result(name)
        if not force and result.better != "B":
            raise ExperimentError(
                f"{name}: nothing shows that {result.b.version} is better ({result.summary}). Wait for more outcomes, "
                "roll back, or promote with force=True."
            )
        return self._end(name, "promoted", ("running",))

    def roll_back(self, name: str) -> Experiment:
        """Give version A to all from now on; also after a promotion, as long as no later experiment builds on it.

        Raises:
            ExperimentError: if it was rolled back before, or a later experiment of the model exists.
        """
        return self._end(name, "rolled_back", ("running", "promoted"))

    def _end(self, name: str, status: Status, allowed: tuple[Status, ...]) -> Experiment:
        with self._database.write() as connection:
            row = connection.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise ExperimentError(f"There is no experiment {name!r}.")
            found = Experiment(*row)
            if found.status not in allowed:
                raise ExperimentError(f"{name} has ended: it is {found.status}.")
            query = "SELECT name FROM experiments WHERE model = ? ORDER BY number DESC LIMIT 1"
            (last,) = connection.execute(query, (found.model,)).fetchone()
            if last != name:
                raise ExperimentError(f"{name} has ended, and {last} builds on it: end or roll back that one.")
            connection.execute(
                "UPDATE experiments SET status = ?, ended = ? WHERE name = ?", (status, time.time(), name)
            )
        return self.get(name)

    def outcomes(self, name: str) -> list[tuple[int, Arm, int, str]]:
        """All outcomes in order: id, arm, outcome, source."""
        found, last = [], 0
        while rows := self._database.read(_OUTCOMES, (self.get(name).name, last)):
            found += rows
            last = rows[-1][0]
        return found  # type: ignore[return-value]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _check_follows(last: Experiment, version_a: str) -> None:
    if last.status == "running":
        raise ExperimentError(
            f"The experiment {last.name!r} runs on {last.model}. Promote it or roll it back before another one."
        )
    current = last.version_b if last.status == "promoted" else last.version_a
    if current != version_a:
        raise ExperimentError(
            f"{last.model} serves {current!r} since {last.name} was {last.status}; version_a must be that, not "
            f"{version_a!r}."
        )
