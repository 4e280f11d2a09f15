"""Problems that are always or never solved: counted, left out for a while, or from the start."""

import json
from collections import Counter

import pytest
from trl.trainer.utils import RepeatSampler

from hf_reason.trainers.sampling.difficulty import ProblemSampler, SettledProblems, by_difficulty, solve_rates

SIZES = {"mini_repeat_count": 2, "batch_size": 3, "repeat_count": 2, "seed": 7}


def _epochs(sampler, number):
    return [list(sampler) for _ in range(number)]


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_that_of_trl_in_every_epoch(shuffle):
    epoch = 0
    ours = ProblemSampler(lambda: epoch, lambda _: (), range(11), **SIZES, shuffle=shuffle)
    for epoch, expected in enumerate(_epochs(RepeatSampler(range(11), **SIZES, shuffle=shuffle), 4)):
        # a sampler that is made anew, as in a resumed run, knows its epoch
        again = ProblemSampler(lambda: epoch, lambda _: (), range(11), **SIZES, shuffle=shuffle)  # noqa: B023
        assert list(ours) == list(again) == expected
        assert len(ours) == len(expected)


def test_the_places_of_problems_left_out_go_to_others():
    sampler = ProblemSampler(lambda: 0, lambda _: {1, 2, 3, 4, 5, 6, 7}, range(9), **SIZES)
    rows = list(sampler)
    assert len(rows) == len(sampler) and set(rows) == {0, 8}
    counts = Counter(rows)
    assert abs(counts[0] - counts[8]) <= SIZES["mini_repeat_count"] * SIZES["repeat_count"]
    assert rows == list(sampler)
    # groups stay together, and a batch is repeated as a whole
    assert all(rows[place] == rows[place + 1] for place in range(0, len(rows), 2))
    assert rows[:6] == rows[6:12]
    everything = ProblemSampler(lambda: 0, lambda _: set(range(9)), range(9), **SIZES)
    assert list(everything) == list(ProblemSampler(lambda: 0, lambda _: (), range(9), **SIZES))


def test_how_long_a_settled_problem_is_left_out():
    settled = SettledProblems(active=True)
    assert settled.at(0) == frozenset()
    settled.note(5, [True, True], epoch=0)
    settled.note(6, [False, False], epoch=0)
    settled.note(7, [True, False], epoch=0)
    settled.note(8, [None, None], epoch=0)
    settled.note(9, [True, None], epoch=0)
    assert settled.counts() == (1, 1)
    assert settled.at(0) == frozenset(), "an epoch that has begun keeps its problems"
    assert settled.at(1) == {5, 6}
    assert settled.at(2) == frozenset()
    settled.note(5, [True, True], epoch=2)  # the second in a row: two epochs
    settled.note(6, [True, True], epoch=2)  # another verdict: the first in a row
    assert [settled.at(epoch) for epoch in (3, 4, 5)] == [{5, 6}, {5}, frozenset()]
    settled.note(5, [True, False], epoch=5)
    assert settled.counts() == (1, 0) and settled.at(6) == frozenset()


def test_only_counted_where_it_is_off():
    settled = SettledProblems(active=False)
    settled.note(5, [True, True], epoch=0)
    assert settled.at(1) == frozenset() and settled.counts() == (1, 0)


def test_a_checkpoint_in_the_middle_of_an_epoch():
    before, after = SettledProblems(True), SettledProblems(True)
    before.note(1, [True], epoch=0)
    assert before.at(1) == {1}
    before.note(2, [False], epoch=1)
    after.load(json.loads(json.dumps(before.state())))
    assert after.at(1) == {1}, "what the epoch began with, and not what was noted since"
    assert after.at(2) == before.at(2) == {2}
    assert after.state() == before.state()


def _written(tmp_path, *rows):
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def _row(name, correct, model="m"):
    return {"model": model, "id": name, "correct": correct}


def test_rates_of_an_evaluation(tmp_path):
    verdicts = [("a", True), ("a", True), ("b", False), ("b", False), ("c", True), ("c", False), ("d", None)]
    path = _written(tmp_path, *(_row(*pair) for pair in verdicts))
    rates = solve_rates(tmp_path)
    assert rates == solve_rates(path) == {"a": 1.0, "b": 0.0, "c": 0.5}
    # the undecided and the unknown stay
    assert by_difficulty(["a", "b", "c", "d", "e"], rates) == ([2, 3, 4], 1, 1)
    with pytest.raises(ValueError, match="1 are always solved and 1 never"):
        by_difficulty(["a", "b"], rates)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([_row("a", True), _row("b", False)], "one sample of each problem.*--num_samples 8"),
        ([_row("a", True), _row("a", False, "other")], "several models"),
        ([{"id": "a"}], "line 1 of .* is no prediction"),
        (["a"], "line 1 of .* is no prediction"),
    ],
)
def test_other_files_are_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        solve_rates(_written(tmp_path, *rows))


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(ValueError, match="hf-reason evaluate --split train --num_samples 8"):
        solve_rates(tmp_path)


def test_traces_have_the_rate_of_their_problem(tmp_path):
    rows = [
        {"id": "p", "sample": 0, "correct": True, "trace": "t0"},
        {"id": "p", "sample": 1, "correct": False, "trace": "t1"},
        {"id": "q", "sample": 0, "correct": True, "trace": "q"},
        {"id": "q", "sample": 1, "correct": True, "trace": "t2"},
        {"id": "r", "sample": 0, "correct": None, "trace": "t3"},
    ]
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert solve_rates(tmp_path) == {"p": 0.5, "t0": 0.5, "t1": 0.5, "q": 1.0, "t2": 1.0}
