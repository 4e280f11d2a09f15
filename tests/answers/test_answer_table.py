"""The table of answers: what is the same in another writing matches, what differs in value or type does not."""

import pytest
from answer_table import read_pairs

from hf_reason.answers.verify import answers_match

PAIRS = list(read_pairs())


def test_the_table_is_large_and_balanced() -> None:
    assert len(PAIRS) >= 2000 and 0.5 * len(PAIRS) <= sum(same is False for *_, same in PAIRS)


@pytest.mark.parametrize(("kind", "answer", "reference", "same"), PAIRS)
def test_answers(kind: str, answer: str, reference: str, same: bool | None) -> None:
    verdict = answers_match(answer, reference)
    assert verdict is same if same is not False else verdict is not True
