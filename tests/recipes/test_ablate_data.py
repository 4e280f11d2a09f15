"""recipes/bench/ablate_data.py: the bad traces that it plants are those that the filters drop, and no others."""

import random
import re
from collections import Counter
from types import SimpleNamespace

import pytest
from datasets import load_from_disk

from hf_reason.answers.verify import answers_match


@pytest.fixture
def bench(bench_module):
    return bench_module("ablate_data")


@pytest.mark.slow
def test_each_filter_drops_its_own_and_only_its_own(bench, tmp_path):
    planted = Counter()
    for row in bench.problems(200, 200):
        kind = int(random.Random(row["context"]).random() / bench.SHARE)
        planted[bench.BAD[kind] if kind < len(bench.BAD) else "good"] += 1
    assert min(planted.values()) > 15
    args = SimpleNamespace(output_dir=tmp_path, records=200)
    kept = {}
    for name in bench.GROUPS["filters"]:
        bench.make_data(args, name)
        kept[name] = len(load_from_disk(bench.data_of(args, name))["train"])
    assert kept.pop("all filters") == planted["good"]
    assert kept.pop("no filters") == 200
    assert {name.removeprefix("without "): count - planted["good"] for name, count in kept.items()} == {
        name: planted[name] for name in bench.BAD
    }


def test_checks_hold_and_vary(bench):
    steps = Counter()
    for row in bench.problems(40):
        chain = bench.checked(row)["steps"]
        checks = [step for step in chain if step.startswith("检查:")]
        assert [step for step in chain if step not in checks] == row["steps"]
        for check in checks:
            left, right = check.removeprefix("检查:").split("=")
            assert answers_match(str(eval(left.replace("×", "*").replace("÷", "/"))), right)
        steps[len(checks) / len(row["steps"])] += 1
    assert len(steps) > 3


def test_a_wrong_result_is_wrong_and_everything_else_stays(bench):
    for row in bench.problems(40):
        found = bench.bad(row, "wrong_answer", random.Random(0))
        assert found["steps"][:-1] == row["steps"][:-1] and found["reference_answer"] == row["answer"]
        assert not answers_match(found["answer"], row["answer"])
        assert found["steps"][-1].rpartition("=")[2] == found["answer"]
        drift = bench.bad(row, "language_drift", random.Random(0))
        assert drift["steps"][0] == row["steps"][0] and drift["answer"] == row["answer"]
        for step, english in zip(row["steps"][1:], drift["steps"][1:], strict=True):
            equation = re.search(r"\d+[-+×÷]\d+=\d+", step).group()
            assert english.endswith(f": {equation}")
