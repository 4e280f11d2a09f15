"""The feedback that a server collected (a SQLite file): what it is made of, and its rows as records to learn from.

`hf_reason.serving.feedback` writes it. A served chain becomes a record if it was praised, a corrected one if its
correction passes the rules; an answer that was only disliked never does.
"""

import json
import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hf_reason.answers.equations import find_equations
from hf_reason.answers.verify import answers_match
from hf_reason.data.clean.contradictions import contradicts_chain

from .rows import OnBroken, Row, SourceError

_log = logging.getLogger(__name__)
_MAGIC = b"SQLite format 3\0"
ENDINGS = (".db", ".sqlite", ".sqlite3")
# "hrfb" in ASCII, where SQLite files carry the number of their application.
APPLICATION_ID = 0x68726662
SERVED_COLUMNS = (
    *("request_id", "choice", "model", "model_version", "arm", "user", "context", "task", "domain", "steps"),
    *("answer", "served_at"),
)
_SERVED = """
    request_id TEXT NOT NULL, choice INTEGER NOT NULL, model TEXT NOT NULL, model_version TEXT NOT NULL,
    arm TEXT NOT NULL, user TEXT NOT NULL, context TEXT NOT NULL, task TEXT NOT NULL, domain TEXT NOT NULL,
    steps TEXT NOT NULL, answer TEXT NOT NULL, served_at REAL NOT NULL"""
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS feedback (
    id INTEGER PRIMARY KEY AUTOINCREMENT,{_SERVED}, thumbs INTEGER CHECK (thumbs IN (1, -1)), corrected_answer TEXT,
    corrected_steps TEXT, comment TEXT, time REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_by_request ON feedback (request_id, choice, id);
CREATE TABLE IF NOT EXISTS served (number INTEGER PRIMARY KEY AUTOINCREMENT,{_SERVED}, UNIQUE (request_id, choice));
"""


@dataclass(frozen=True)
class Verdict:
    """What is to be learned from all feedback on one answer.

    Attributes:
        reason: Why it is a record (`praised`, `corrected`) or none (the other ones, see `judge_feedback`).
        steps, answer: Of the record; empty for none.
        number: The id of the feedback that decided.
    """

    reason: str
    steps: tuple[str, ...] = ()
    answer: str = ""
    number: int = 0

    @property
    def learned(self) -> bool:
        return self.reason in ("praised", "corrected")


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def is_feedback(path: Path) -> bool:
    """Whether a file is one that `FeedbackStore` wrote, by the application's number in it."""
    if not is_sqlite(path):
        return False
    try:
        # asked of SQLite: the file's own header may not have the number yet, while it is in the -wal
        with closing(open_read_only(path)) as connection:
            return bool(connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,))
    except sqlite3.Error:
        return False


def judge_feedback(rows: list[dict[str, Any]]) -> Verdict:
    """What all feedback on one answer comes to.

    A correction counts before votes, and the last one before others. It must pass: every equation of its steps holds,
    and they do not end in another result than the answer. A corrected answer without steps keeps the served ones only
    if these lead to it. Of votes, each user's last one counts.

    Args:
        rows: The feedback on one answer, oldest first, with `steps` and `corrected_steps` as lists.

    Returns:
        A verdict, `reason` being `praised` or `corrected` for a record, or else `disliked`, `no_vote` (a comment
        alone), `no_chain`, `false_equation`, `contradiction` (the corrected steps end in another result) or
        `answer_without_steps` (the served steps do not lead to the corrected answer).
    """
    for row in reversed(rows):
        if row["corrected_steps"] or row["corrected_answer"]:
            return _judge_correction(row)
    # a vote without a user is one of its own
    votes = {row["user"] or row["id"]: row["thumbs"] for row in rows if row["thumbs"]}
    if not votes:
        return Verdict("no_vote", number=rows[-1]["id"])
    last = rows[-1]
    if min(votes.values()) < 0:
        return Verdict("disliked", number=last["id"])
    if not last["steps"] or not last["answer"].strip():
        return Verdict("no_chain", number=last["id"])
    return Verdict("praised", tuple(last["steps"]), last["answer"], last["id"])


def _judge_correction(row: dict[str, Any]) -> Verdict:
    own = bool(row["corrected_steps"])
    steps, answer = row["corrected_steps"] or row["steps"], row["corrected_answer"] or row["answer"]
    number = row["id"]
    if not steps or not answer.strip():
        return Verdict("no_chain" if own or not steps else "answer_without_steps", number=number)
    if any(not equation.holds for step in steps for equation in find_equations(step)):
        return Verdict("false_equation" if own else "answer_without_steps", number=number)
    if own and contradicts_chain(steps, answer):
        return Verdict("contradiction", number=number)
    if not own and answers_match(steps[-1], answer) is not True:
        return Verdict("answer_without_steps", number=number)
    return Verdict("corrected", tuple(steps), answer, number)


def feedback_groups(connection: sqlite3.Connection) -> Iterator[list[dict[str, Any]]]:
    """The feedback on each answer, oldest first, as dictionaries of the columns."""
    cursor = connection.execute("SELECT * FROM feedback ORDER BY request_id, choice, id")
    names = [column[0] for column in cursor.description]
    rows = (_decoded(dict(zip(names, values, strict=True))) for values in cursor)
    for _, group in groupby(rows, key=lambda row: (row["request_id"], row["choice"])):
        yield list(group)


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("steps", "corrected_steps"):
        if row[name] is not None:
            row[name] = json.loads(row[name])
    return row


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also to a file in a folder that cannot be written to."""
    # a WAL database needs its -shm file, which cannot be made there; without a -wal nothing is missed
    frozen = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
    place = f"file:{quote(str(path.resolve()))}?mode=ro" + ("&immutable=1" if frozen else "")
    return sqlite3.connect(place, uri=True, timeout=30.0)


def read_feedback(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of a feedback file as records; how many answers were left out, and why, is logged.

    Raises:
        SourceError: if it is damaged, or another SQLite database.
    """
    if not is_sqlite(path):
        raise SourceError(
            f"{label}: not a SQLite database. Files ending in {', '.join(ENDINGS)} are read as feedback."
        )
    left_out: Counter[str] = Counter()
    learned = 0
    try:
        with closing(open_read_only(path)) as connection:
            _check_tables(connection, label)
            for rows in feedback_groups(connection):
                verdict = judge_feedback(rows)
                if not verdict.learned:
                    left_out[verdict.reason] += 1
                    continue
                learned += 1
                names = ("context", "task", "domain")
                values = {name: rows[-1][name] for name in names}
                yield Row(label, verdict.number, {**values, "steps": list(verdict.steps), "answer": verdict.answer})
    except (sqlite3.Error, json.JSONDecodeError) as error:
        raise SourceError(
            f"{label}: the database is damaged ({error}). Recover it (sqlite3 {path.name} .recover) or use a copy."
        ) from error
    if left_out:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        _log.warning("%s: %d answers with feedback are records; left out: %s.", label, learned, counts)


def _check_tables(connection: sqlite3.Connection, label: str) -> None:
    found = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if "feedback" in found:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(feedback)")}
        if {"thumbs", "corrected_steps", "corrected_answer", *SERVED_COLUMNS} <= columns:
            return
    tables = ", ".join(sorted(name for name in found if not name.startswith("sqlite_"))) or "no table"
    raise SourceError(
        f"{label}: a SQLite database of something else (it holds {tables}); only the feedback of hf-reason serve is "
        "read. Export the table to a .csv or .jsonl file."
    )
