"""The table of answers: what is the same in another writing matches, what differs in value or type does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from hf_reason.answers.verify import answers_match

TABLE = yaml.safe_load((Path(__file__).parent / "answer_pairs.yaml").read_text(encoding="utf-8"))


def table_pairs() -> Iterator[tuple[str, str, str, bool]]:
    """(kind, answer, reference, whether they match) of every pair of the table."""
    for kind, lists in TABLE.items():
        lines = [line.split(" | ") for line in lists["same"].splitlines()]
        for line, after in zip(lines, [*lines[1:], lines[0]], strict=True):
            for writing in line[1:]:
                yield kind, writing, line[0], True
                yield kind, writing, after[0], False
        for line in lists["different"].splitlines():
            answer, reference = line.split(" | ")
            yield kind, answer, reference, False


PAIRS = list(table_pairs())


def test_the_table_is_large_and_balanced() -> None:
    assert len(PAIRS) >= 400 and len(PAIRS) / 2 <= sum(not same for *_, same in PAIRS)


@pytest.mark.parametrize(("kind", "answer", "reference", "same"), PAIRS)
def test_answers(kind: str, answer: str, reference: str, same: bool) -> None:
    verdict = answers_match(answer, reference)
    assert verdict is True if same else verdict is not True
