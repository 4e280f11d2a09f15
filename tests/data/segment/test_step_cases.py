"""Chains and their steps, from `step_cases.yaml`; half of the cases must not be cut."""

from pathlib import Path

import pytest
import yaml

from hf_reason.data.segment.steps import segment_chain, split_steps

_TABLE = yaml.safe_load(Path(__file__).with_name("step_cases.yaml").read_text(encoding="utf-8"))
_CASES = [pytest.param(case, id=f"{kind}-{i}") for kind, cases in _TABLE.items() for i, case in enumerate(cases)]


@pytest.mark.parametrize("case", _CASES)
def test_a_chain_is_cut_where_its_numbering_says(case):
    chain = case["chain"]
    steps = split_steps(chain)
    assert "".join(segment_chain(chain)) == chain
    if "steps" in case:
        assert steps == case["steps"]
    for phrase in case.get("whole", []):
        assert any(phrase in step for step in steps), (phrase, steps)
