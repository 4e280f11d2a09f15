"""What users say about answers, stored so that none that was accepted is lost: thumbs, corrections, comments.

    store = FeedbackStore("feedback.db")
    store.remember(Served(request_id="req-1", context="...", steps=("...",), answer="12", model_version="v3"))
    store.add("req-1", thumbs="up", user="u7")

The file is what `hf-reason continual --dataset_name feedback.db` and `read_records("feedback.db")` read.
"""

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hf_reason._files import write_atomically
from hf_reason.data.read.feedback import (
    APPLICATION_ID,
    SCHEMA,
    SERVED_COLUMNS,
    feedback_groups,
    judge_feedback,
    open_read_only,
)
from hf_reason.data.read.sources import read_records
from hf_reason.data.record import DOMAINS

from .sqlite import Database

Thumbs = Literal["up", "down"]
_THUMBS = {"up": 1, "down": -1}
# Longer texts are refused: no answer is that long, and the file is kept for good.
MAX_CHARS = 100_000
MAX_STEPS = 1_000
_INSERT_SERVED = (
    f"INSERT OR REPLACE INTO served ({', '.join(SERVED_COLUMNS)}) VALUES ({', '.join('?' * len(SERVED_COLUMNS))})"
)
_COLUMNS = (*SERVED_COLUMNS, "thumbs", "corrected_answer", "corrected_steps", "comment", "time")
_INSERT = f"INSERT INTO feedback ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class FeedbackError(ValueError):
    """Feedback that cannot be stored. The message says what is wrong with it."""


class UnknownRequestError(FeedbackError):
    """Feedback on an answer that was not served here, or too long ago."""


@dataclass(frozen=True)
class Served:
    """An answer as it was served, with the prompt that it answers.

    Attributes:
        request_id, choice: Which answer; `choice` counts from 0.
        context, task, domain: The prompt's record; a domain that is none of `DOMAINS` is `general`.
        steps: The served chain, without numbering; empty for an answer without a thought.
        answer: The served answer.
        model, model_version: Who answered: the served name, and the revision of its weights.
        arm: Of an experiment; empty outside one.
        user: Who asked; empty if unknown.
        served_at: Seconds since 1970; `None`: now.
    """

    request_id: str
    context: str
    answer: str
    steps: tuple[str, ...] = ()
    task: str = ""
    domain: str = "general"
    choice: int = 0
    model: str = ""
    model_version: str = ""
    arm: str = ""
    user: str = ""
    served_at: float | None = None


@dataclass(frozen=True)
class Feedback:
    """One feedback.

    Attributes:
        id: Counts up in the order in which feedback was stored.
        served: The answer that it is on; its `user` is who gave the feedback.
        thumbs: `up`, `down` or `None`.
        corrected_answer, corrected_steps, comment: What the user wrote; `None` where nothing.
        time: Seconds since 1970.
    """

    id: int
    served: Served
    thumbs: Thumbs | None
    corrected_answer: str | None
    corrected_steps: tuple[str, ...] | None
    comment: str | None
    time: float


class FeedbackStore:
    """Feedback in a SQLite file, written by any number of threads and processes at once.

    `add` returns when the feedback is on the disk (WAL with `synchronous=FULL`), so neither a killed process nor a
    power cut loses what was accepted. Iterating gives all `Feedback` in order.

    Args:
        path: The file; it and its folder are made.
        max_served: Answers that `remember` keeps for feedback to come; the oldest go first. Feedback has a copy of its
            answer, so nothing that was stored depends on it.

    Raises:
        FeedbackError: if the file is something else, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_served: int = 100_000) -> None:
        if max_served < 1:
            raise ValueError(f"max_served must be at least 1, not {max_served}.")
        self.path, self.max_served = Path(path), max_served
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = Database(self.path, SCHEMA, application_id=APPLICATION_ID)
            # What was served may be lost by a power cut, and must not cost each request a wait for the disk.
            self._served = Database(self.path, "", synchronous="NORMAL")
        except (sqlite3.Error, ValueError) as error:
            raise FeedbackError(f"{self.path} cannot hold feedback: {error}. Give another file.") from error

    def remember(self, served: Served) -> None:
        """Keep an answer, so that feedback on it needs its `request_id` alone; one of the same id is replaced.

        Raises:
            FeedbackError: if a text is no text, or too long.
        """
        with self._served.write() as connection:
            number = connection.execute(_INSERT_SERVED, _served_values(served)).lastrowid or 0
            connection.execute("DELETE FROM served WHERE number <= ?", (number - self.max_served,))

    def served(self, request_id: str, choice: int = 0) -> Served | None:
        """A remembered answer; `None` if there is none."""
        columns = ", ".join(SERVED_COLUMNS)
        where = "WHERE request_id = ? AND choice = ?"
        try:
            rows = self._database.read(f"SELECT {columns} FROM served {where}", (request_id, choice))
        except (UnicodeEncodeError, OverflowError):  # an id that no answer has
            return None
        return _served_from(rows[0]) if rows else None

    def add(
        self,
        answer: str | Served,
        *,
        choice: int = 0,
        thumbs: Thumbs | None = None,
        corrected_answer: str | None = None,
        corrected_steps: Sequence[str] | None = None,
        comment: str | None = None,
        user: str | None = None,
    ) -> Feedback:
        """Store feedback on an answer; when this returns, it is safe.

        Args:
            answer: The `request_id` of a remembered answer, or the answer itself.
            choice: Which choice of the request; only with a `request_id`.
            thumbs: `"up"` or `"down"`.
            corrected_answer: What the answer should have been.
            corrected_steps: What the chain should have been, one step an item.
            comment: Anything else.
            user: Who says so; default: who asked.

        Raises:
            UnknownRequestError: if no such answer is remembered.
            FeedbackError: if there is nothing to store, or a text is no text or too long.
        """
        served = answer if isinstance(answer, Served) else self.served(_text("request_id", answer), choice)
        if served is None:
            raise UnknownRequestError(f"No answer to the request {answer!r} (choice {choice}) is known here.")
        if thumbs is not None and not (isinstance(thumbs, str) and thumbs in _THUMBS):
            raise FeedbackError(f"thumbs is 'up' or 'down', not {thumbs!r}.")
        corrected_answer, comment = _written("corrected_answer", corrected_answer), _written("comment", comment)
        steps = None if corrected_steps is None else _steps("corrected_steps", corrected_steps)
        if thumbs is None and not corrected_answer and not steps and not comment:
            raise FeedbackError(
                "There is no feedback. Give thumbs ('up' or 'down'), corrected_answer, corrected_steps or comment."
            )
        if user is not None:
            served = replace(served, user=_text("user", user))
        now = time.time()
        stored = json.dumps(steps, ensure_ascii=False) if steps else None
        vote = None if thumbs is None else _THUMBS[thumbs]
        values = (*_served_values(served), vote, corrected_answer, stored, comment, now)
        with self._database.write() as connection:
            number = connection.execute(_INSERT, values).lastrowid or 0
        return Feedback(number, served, thumbs, corrected_answer, tuple(steps) if steps else None, comment, now)

    def __len__(self) -> int:
        return int(self._database.read("SELECT COUNT(*) FROM feedback")[0][0])

    def __iter__(self) -> Iterator[Feedback]:
        return self.since(0)

    def since(self, number: int) -> Iterator[Feedback]:
        """All feedback with an id above `number`, in order."""
        query = f"SELECT id, {', '.join(_COLUMNS)} FROM feedback WHERE id > ? ORDER BY id LIMIT 500"
        while rows := self._database.read(query, (number,)):
            for row in rows:
                yield _feedback_from(row)
            number = rows[-1][0]

    def counts(self) -> dict[str, int]:
        """How many answers with feedback are records (`praised`, `corrected`), and why the others are none."""
        with closing(open_read_only(self.path)) as connection:
            return dict(Counter(judge_feedback(rows).reason for rows in feedback_groups(connection)))

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write what is to be learned as records, one JSON object a line; returns how many."""
        records = list(read_records(self.path))
        write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        return len(records)

    def close(self) -> None:
        """Close the file."""
        self._served.close()
        self._database.close()


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise FeedbackError(f"{name} must be text, not {type(value).__name__}.")
    if len(value) > MAX_CHARS:
        raise FeedbackError(f"{name} has {len(value):,} characters; at most {MAX_CHARS:,} are stored.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FeedbackError(f"{name} is not valid Unicode: half of a surrogate pair at {error.start}.") from error
    return value


def _written(name: str, value: str | None) -> str | None:
    """A text that the user may have left empty."""
    return None if value is None or not _text(name, value).strip() else value.strip()


def _steps(name: str, steps: Sequence[str]) -> list[str]:
    if isinstance(steps, str) or not isinstance(steps, Sequence) or len(steps) > MAX_STEPS:
        raise FeedbackError(f"{name} must be a list of at most {MAX_STEPS:,} texts.")
    return [text for number, step in enumerate(steps, 1) if (text := _written(f"{name}, step {number}", step))]


def _served_values(served: Served) -> tuple[Any, ...]:
    """The columns of an answer, checked."""
    values = asdict(served)
    choice = values["choice"]
    if not isinstance(choice, int) or not 0 <= choice < 2**31:
        raise FeedbackError(f"choice must be a whole number from 0, not {choice!r}.")
    values["steps"] = json.dumps(_steps("steps", values["steps"]), ensure_ascii=False)
    values["domain"] = values["domain"] if values["domain"] in DOMAINS else "general"
    values["served_at"] = time.time() if values["served_at"] is None else values["served_at"]
    for name, value in values.items():
        if name not in ("choice", "steps", "served_at"):
            _text(name, value)
    if not values["request_id"]:
        raise FeedbackError("request_id is empty.")
    return tuple(values[name] for name in SERVED_COLUMNS)


def _served_from(row: Sequence[Any]) -> Served:
    values = dict(zip(SERVED_COLUMNS, row, strict=True))
    return Served(**{**values, "steps": tuple(json.loads(values["steps"]))})


def _feedback_from(row: Sequence[Any]) -> Feedback:
    number, *rest = row
    thumbs, answer, steps, comment, when = rest[len(SERVED_COLUMNS) :]
    vote: Thumbs | None = None if thumbs is None else "up" if thumbs > 0 else "down"
    corrected = None if steps is None else tuple(json.loads(steps))
    return Feedback(number, _served_from(rest[: len(SERVED_COLUMNS)]), vote, answer, corrected, comment, when)
