"""No way of getting the rewards without thinking gets more than an honest right chain of the same problem."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[2] / "recipes" / "bench" / "reward_hacks.py"
_SPEC = importlib.util.spec_from_file_location("reward_hacks", _PATH)
bench = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)


@pytest.fixture(scope="module")
def rows():
    from hf_reason.data.synthetic.word_problems import generate_word_problems

    return [dict(row) for row in generate_word_problems(12, seed=3)]


@pytest.fixture(scope="module")
def honest(rows):
    return bench.rewards(rows, [bench.written(row, row["steps"], row["answer"]) for row in rows])


def test_honest_chains_get_everything(rows, honest):
    for name, column in honest.items():
        assert column == [0.0 if name in ("length", "repetition") else 1.0] * len(rows), name


@pytest.mark.parametrize("name", bench.HACKS)
def test_no_hack_gets_more(name, rows, honest):
    """With the right answer, guessed, it gets less on average and never more; with a wrong one at least 1 less."""
    hack = bench.HACKS[name]
    guessed = bench.rewards(rows, [hack(row, row["answer"]) for row in rows])
    failed = bench.rewards(rows, [hack(row, bench.wrong_answer(row)) for row in rows])
    for at in range(len(rows)):
        best = bench.total(honest, at)
        for reward, column in guessed.items():
            assert (column[at] or 0.0) <= honest[reward][at], reward
        assert bench.total(guessed, at) <= best
        assert bench.total(failed, at) <= best - 1.0
    if name != "wrong last step":  # which is the honest chain, if the answer is right
        sums = [sum(bench.total(values, at) for at in range(len(rows))) for values in (guessed, honest)]
        assert sums[0] < sums[1]
