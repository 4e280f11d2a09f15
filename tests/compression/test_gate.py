"""The gate: the paired test, what is refused and what is not, the table."""

from math import comb

import pytest

from hf_reason.compression import GateError, compare
from hf_reason.compression.gate import Measured, check, first_wrong_step, format_comparison, mcnemar, table
from hf_reason.evaluation import EvaluationResult


def _measured(right, close_rate=1.0, step_accuracy=0.9, steps=("1+1=2",), **more):
    rows = [
        {"id": str(i), "sample": 0, "reference": "1", "correct": verdict, "steps": list(steps)}
        for i, verdict in enumerate(right)
    ]
    judged = [verdict for verdict in right if verdict is not None]
    accuracy = sum(judged) / len(judged) if judged else None
    result = EvaluationResult(
        answer_accuracy=accuracy,
        answer_accuracy_ci=None if accuracy is None else [0.0, 1.0],
        close_rate=close_rate,
        step_accuracy=step_accuracy,
        predictions=rows,
    )
    return Measured(result, **more)


@pytest.mark.parametrize("lost, won", [(0, 0), (1, 0), (5, 1), (3, 3), (12, 30), (40, 0)])
def test_p_value_is_that_of_the_binomial_test(lost, won):
    total = lost + won
    as_far = [count for count in range(total + 1) if abs(2 * count - total) >= abs(lost - won)]
    assert mcnemar(lost, won) == pytest.approx(sum(comb(total, count) for count in as_far) / 2**total)


def test_pairs_are_counted_output_by_output():
    found = compare(
        _measured([True, True, False, None, True]), _measured([True, False, True, True, None]), max_drop=100
    )
    assert (found.lost, found.won) == (1, 1) and found.passed


@pytest.mark.parametrize(
    ("after", "limits", "message"),
    [
        ({"right": [True] * 9 + [False]}, {"max_drop": 10}, None),
        ({"right": [True] * 9 + [False]}, {"max_drop": 9.9}, "answer accuracy fell from 100.0% to 90.0%"),
        ({"right": [True] * 10, "step_accuracy": 0.8}, {"max_drop": 5}, "step accuracy fell from 90.0% to 80.0%"),
        ({"right": [True] * 10, "step_accuracy": None}, {"max_drop": 5}, "step accuracy fell from 90.0% to 0.0%"),
        ({"right": [True] * 10, "close_rate": 0.94}, {"max_drop": 5}, "only 94.0% of the thoughts are closed"),
        ({"right": [True] * 10, "close_rate": 0.94}, {"max_drop": 5, "min_close_rate": 0.9}, None),
        ({"right": [True] * 10, "close_rate": 0.0}, {"max_drop": 100, "min_close_rate": 0.5}, "only 0.0%"),
        ({"right": [True] * 10, "close_rate": None}, {"max_drop": 5}, "only 0.0%"),
    ],
)
def test_what_is_refused(after, limits, message):
    found = compare(_measured([True] * 10), _measured(**after), **limits)
    if message is None:
        check(found, "out")
        return
    with pytest.raises(GateError, match=message) as refused:
        check(found, "out-refused")
    assert "out-refused" in str(refused.value)


def test_a_model_that_writes_no_thoughts_is_not_asked_to_close_them():
    before, after = _measured([True], close_rate=None), _measured([True], close_rate=None)
    assert compare(before, after, min_close_rate=0.9).passed


def test_other_problems_cannot_be_compared():
    with pytest.raises(ValueError, match="same problems"):
        compare(_measured([True]), _measured([True, True]))
    nothing = Measured(EvaluationResult(answer_accuracy=1.0))
    with pytest.raises(ValueError, match="return_predictions"):
        compare(nothing, nothing)


def test_first_wrong_step():
    assert first_wrong_step(["1+1=2", "所以2×3=6", "6-1=4,4+1=5", "1=2"]) == 3
    assert first_wrong_step(["设苹果有若干个", "1+1=2"]) is None and first_wrong_step([]) is None


def test_table_shows_what_there_is():
    found = compare(
        _measured([True, False], disk_bytes=3_750_000, perplexity=1.5), _measured([True, True], disk_bytes=660_000)
    )
    rows = {row[0]: row[1:] for row in table(found, ("whole", "small"))}
    assert rows[""] == ("whole", "small")
    assert rows["answer accuracy"] == ("50.0% (0.0-100.0)", "100.0% (0.0-100.0)")
    assert rows["weights on disk"] == ("3.75 MB", "0.66 MB") and rows["perplexity of the references"] == ("1.50", "-")
    assert "tokens/s" not in rows
    assert "0 right answers are lost and 1 are won (McNemar's exact test: p = 1.000)." in format_comparison(found)
    assert found.to_dict()["passed"] is True


@pytest.mark.parametrize(
    ("before", "after", "least", "passed"),
    [
        (0.0, 0.0, None, True),  # it lost nothing
        (0.0, 0.0, 0.5, False),  # but that is not what was asked for
        (None, 0.2, 0.5, False),
        (None, None, 0.5, True),  # neither writes thoughts
        (0.0, 0.6, 0.5, True),
    ],
)
def test_a_least_rate_that_is_given_holds_whatever_was_before(before, after, least, passed):
    found = compare(_measured([True], close_rate=before), _measured([True], close_rate=after), min_close_rate=least)
    assert found.passed == passed and ("no thoughts before" in str(found.failures)) == (before is None and not passed)
