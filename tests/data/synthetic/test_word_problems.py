"""The generator: every step holds, the answer is the last result, numbers come from the problem."""

import json
import random
import re

import pytest

from hf_reason.answers.equations import find_equations
from hf_reason.data.synthetic.word_problems import generate_word_problems, word_problem, write_word_problems


@pytest.mark.parametrize("domain", ["math", "finance"])
def test_steps_hold_follow_from_the_problem_and_end_in_the_answer(domain):
    for row in generate_word_problems(400, seed=1, domain=domain):
        assert row["domain"] == domain
        known = set(re.findall(r"\d+", row["context"])) | {"1"}
        for step in row["steps"]:
            (equation,) = find_equations(step)
            assert equation.holds, step
            left, result = re.fullmatch(r".*:(.*)=(\d+)\D*", step).groups()
            operands = set(re.findall(r"\d+", left))
            assert operands <= known, (row["context"], step)
            known.add(result)
        assert row["steps"][-1].endswith("=" + row["answer"])


def test_number_of_operations_is_what_was_asked_for():
    rng = random.Random(0)
    for number in range(2, 7):
        assert all(len(word_problem(number, rng)["steps"]) == number for _ in range(50))
    with pytest.raises(ValueError, match="2 to 6"):
        word_problem(7, rng)
    with pytest.raises(ValueError, match="math, finance"):
        word_problem(2, rng, domain="legal")


def test_problems_differ_and_repeat_with_the_seed(tmp_path):
    rows = list(generate_word_problems(300, seed=5))
    assert len({row["context"] for row in rows}) == 300
    assert rows == list(generate_word_problems(300, seed=5)) != list(generate_word_problems(300, seed=6))
    path = write_word_problems(tmp_path / "sub" / "p.jsonl", 300, seed=5)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == rows
    assert [file.name for file in path.parent.iterdir()] == ["p.jsonl"]
