"""Votes between two answers to the same question, stored beside the feedback: pairs to learn preferences from."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from hf_reason._files import write_atomically
from hf_reason.data.read.feedback import APPLICATION_ID
from hf_reason.text.render import render

from .feedback import FeedbackError, Served
from .sqlite import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS preferences (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chosen TEXT NOT NULL, rejected TEXT NOT NULL, user TEXT NOT NULL,
    time REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Preference:
    """One vote.

    Attributes:
        id: Counts up.
        chosen, rejected: The answers, as they were served.
        user: Who voted; empty if unknown.
        time: Seconds since 1970.
    """

    id: int
    chosen: Served
    rejected: Served
    user: str
    time: float


class Preferences:
    """The votes in a feedback file; when `add` returns, the vote is on the disk. Iterating gives them in order.

    Args:
        path: The file of a `FeedbackStore`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._database = Database(path, _SCHEMA, application_id=APPLICATION_ID)

    def add(self, chosen: Served, rejected: Served, user: str = "") -> Preference:
        """Store a vote.

        Raises:
            FeedbackError: if the two are one answer, or answer different questions.
        """
        if (chosen.request_id, chosen.choice) == (rejected.request_id, rejected.choice):
            raise FeedbackError("An answer cannot be preferred to itself. Name another one in preferred_to.")
        if (chosen.context, chosen.task) != (rejected.context, rejected.task):
            raise FeedbackError("The two answers are to different questions: there is nothing to compare.")
        now = time.time()
        texts = [json.dumps(asdict(answer), ensure_ascii=False) for answer in (chosen, rejected)]
        with self._database.write() as connection:
            query = "INSERT INTO preferences (chosen, rejected, user, time) VALUES (?, ?, ?, ?)"
            number = connection.execute(query, (*texts, user, now)).lastrowid or 0
        return Preference(number, chosen, rejected, user, now)

    def __len__(self) -> int:
        return int(self._database.read("SELECT COUNT(*) FROM preferences")[0][0])

    def __iter__(self) -> Iterator[Preference]:
        number = 0
        query = "SELECT id, chosen, rejected, user, time FROM preferences WHERE id > ? ORDER BY id LIMIT 500"
        while rows := self._database.read(query, (number,)):
            for number, chosen, rejected, user, when in rows:
                yield Preference(number, _served(chosen), _served(rejected), user, when)

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write the votes as TRL's preference pairs (`prompt`, `chosen`, `rejected`), one JSON object a line.

        Prompt and completions are those of `hf_reason.text.render` without a chat template.

        Returns:
            How many.
        """
        rows = []
        for vote in self:
            good, bad = render(asdict(vote.chosen)), render(asdict(vote.rejected))
            row = {"prompt": good["prompt"], "chosen": good["completion"], "rejected": bad["completion"]}
            rows.append(json.dumps(row, ensure_ascii=False))
        write_atomically(path, "".join(row + "\n" for row in rows))
        return len(rows)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _served(text: str) -> Served:
    values: dict[str, Any] = json.loads(text)
    return Served(**{**values, "steps": tuple(values["steps"])})
