"""What there is to learn from a server's feedback since the version in use was made."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason.data.read.feedback import feedback_groups, judge_feedback, open_read_only
from hf_reason.data.record import make_record

# Feedback is scarce: a tenth is tested on.
_TEST_SIZE = 0.1


@dataclass(frozen=True)
class NewFeedback:
    """Feedback of a server.

    Attributes:
        records: What is to be learned.
        last: The number of the last feedback that was read.
        left_out: Reason -> how many answers are no record (see `judge_feedback`).
        users: Who gave feedback, on whatever answer.
    """

    records: list[dict[str, Any]]
    last: int
    left_out: dict[str, int]
    users: frozenset[str]


def read_new_feedback(path: Path, after: int = 0) -> NewFeedback:
    """The feedback in a server's file; nothing if there is none yet.

    Args:
        path: The file, which a server may be writing.
        after: Records that were decided by feedback up to this number are left out.
    """
    records: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    users: set[str] = set()
    last = after
    if not path.is_file():
        return NewFeedback(records, last, left_out, frozenset())
    with closing(open_read_only(path)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'feedback'").fetchone():
            return NewFeedback(records, last, left_out, frozenset())  # the server is about to begin the file
        for rows in feedback_groups(connection):
            users |= {row["user"] for row in rows}
            last = max(last, rows[-1]["id"])
            verdict = judge_feedback(rows)
            if not verdict.learned:
                left_out[verdict.reason] = left_out.get(verdict.reason, 0) + 1
            elif verdict.number > after:
                told = rows[-1]
                source = f"{path.name}:{verdict.number}"
                record = make_record(
                    told["context"],
                    list(verdict.steps),
                    verdict.answer,
                    task=told["task"],
                    domain=told["domain"],
                    source=source,
                )
                records.append(dict(record))
    return NewFeedback(records, last, left_out, frozenset(users))


def count_users(path: Path, prefix: str) -> dict[str, int]:
    """How many answers to users whose names begin like this were right, wrong and corrected, or wrong alone.

    Args:
        path: A server's file.
        prefix: Of simulated users, who give feedback once.
    """
    count = {"right": 0, "corrected": 0, "wrong": 0}
    with closing(open_read_only(path)) as connection:
        query = "SELECT user, thumbs, corrected_answer FROM feedback WHERE substr(user, 1, ?) = ?"
        kinds = {
            user: "right" if thumbs == 1 else "corrected" if corrected else "wrong"
            for user, thumbs, corrected in connection.execute(query, (len(prefix), prefix))
        }
    for kind in kinds.values():
        count[kind] += 1
    return count


def prepare_feedback(records: Path, folder: Path, validates: bool) -> Mapping[str, Any]:
    """Records with a test split of their own; what a killed command has begun is continued.

    The filters are those of `prepare`, but a chain that a person has seen may be short.

    Args:
        records: JSON lines.
        folder: Where they are prepared.
        validates: Whether a validation split is needed, too.

    Returns:
        How many went `in` and `out`, and what each of the `filters` dropped.

    Raises:
        DataError: if nothing is left of them.
    """
    from hf_reason.cli.inputs.raw_data import finished_report
    from hf_reason.data.clean.filters import FilterConfig
    from hf_reason.data.prepare import prepare
    from hf_reason.data.prepare.settings import PrepareConfig

    report = finished_report(folder)
    if report is None:
        config = PrepareConfig(
            filters=FilterConfig(min_steps=1, min_chars=1),
            test_size=_TEST_SIZE,
            validation_size=_TEST_SIZE / 2 if validates else 0.0,
        )
        report = prepare([str(records)], folder, config, progress=False)
    return dict(report["counts"])
