"""Advantages of steps: worked out by hand, and where they stand."""

import statistics

import pytest

from hf_reason.trainers.credit import _until_error, problem_of
from hf_reason.trainers.step_credit import DECAY, EPSILON, LEAST_DEVIATION, RunningMean, advantages_by_depth, on_tokens


def test_a_group_worked_out_by_hand():
    """Depth 1: 1, 1, 0 -> mean 2/3, std sqrt(1/3). Depth 2: 1, 0 -> mean 1/2, std sqrt(1/2). Depth 3: one verdict."""
    group = [[1.0, 1.0, 1.0], [1.0, 0.0], [0.0, None]]
    found = advantages_by_depth(group, scale=True)
    first, second = (1 / 3) ** 0.5 + EPSILON, 0.5**0.5 + EPSILON
    assert found[0] == pytest.approx([1 / 3 / first, 0.5 / second, 0.0])
    assert found[1] == pytest.approx([1 / 3 / first, -0.5 / second])
    assert found[2] == pytest.approx([-2 / 3 / first, 0.0])
    assert advantages_by_depth(group, scale=False)[2] == pytest.approx([-2 / 3, 0.0])


def test_advantages_of_a_depth_add_up_to_nothing():
    group = [[0.2, None, 1.0], [1.0, 0.0], [], [0.5, 1.0, 0.0], [None]]
    for scale in (True, False):
        found = advantages_by_depth(group, scale)
        for depth in range(3):
            assert sum(row[depth] for row in found if depth < len(row)) == pytest.approx(0, abs=1e-12)


def test_equal_verdicts_and_lonely_steps_have_none():
    assert advantages_by_depth([[1.0], [1.0], [1.0, 0.0]], scale=True) == [[0.0], [0.0], [0.0, 0.0]]
    assert advantages_by_depth([], scale=True) == []


def test_running_mean_forgets():
    running = RunningMean()
    running.update([[1.0, 1.0], [0.0, None]])
    running.update([[0.0]])
    weights, values = [DECAY, DECAY, DECAY, 1.0], [1.0, 1.0, 0.0, 0.0]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    ((right, nothing, wrong),) = running.advantages([[1.0, None, 0.0]], scale=False)
    assert (right, nothing, wrong) == (pytest.approx(1 - mean), 0.0, pytest.approx(-mean))
    ((right,),) = running.advantages([[1.0]], scale=True)
    assert right == pytest.approx((1 - mean) / (mean * (1 - mean)) ** 0.5)
    assert RunningMean().advantages([[1.0]], scale=True) == [[0.0]]
    running = RunningMean()
    running.update([[1.0] * 1000])
    assert running.advantages([[0.0, 1.0]], scale=True)[0] == pytest.approx([-1 / LEAST_DEVIATION, 0.0])


def test_nothing_counts_after_the_first_wrong_step():
    assert _until_error([1.0, 0.0, 1.0, None, 0.0]) == [1.0, 0.0, None, None, None]
    assert _until_error([1.0, None, 1.0]) == [1.0, None, 1.0]
    assert _until_error([]) == []


def test_on_the_tokens_of_the_step_and_nowhere_else():
    row = on_tokens([1, 1, 2, 2, 2, 3], [0.5, -1.0], 8)
    assert row.tolist() == [0.5, 0.5, -1.0, -1.0, -1.0, 0.0, 0.0, 0.0]
    assert on_tokens([1, 1], [], 3).tolist() == [0.0, 0.0, 0.0]
    assert on_tokens([], [], 2).tolist() == [0.0, 0.0]


def test_the_problem_of_an_example():
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "c"}]}]
    assert problem_of({"context": "p", "prompt": "q"}) == "p"
    assert problem_of({"prompt": "q"}) == "q"
    assert problem_of({"prompt": turns}) == "b"
    assert problem_of({"prompt": parts}) == "\nc"
    assert problem_of({"prompt": []}) == ""


def test_population_and_sample_deviation_differ():
    """TRL divides by the unbiased deviation; so does this."""
    ((high,), (low,)) = advantages_by_depth([[1.0], [0.0]], scale=True)
    assert high == pytest.approx(0.5 / (statistics.stdev([1, 0]) + EPSILON)) and low == -high
