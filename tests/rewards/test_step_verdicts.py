"""The verdict on each step of a chain: what holds, what is wrong, and what counts for nothing."""

import pytest

from hf_reason.rewards import first_wrong, judge_steps, step_verdicts

CONTEXT = "小明有48个苹果，妈妈又买来24个，平均分给3个朋友，每人几个？"


@pytest.mark.parametrize(
    ("steps", "verdicts"),
    [
        (["48+24=72", "72÷3=24"], ["holds", "holds"]),
        (["48+24=73", "73÷3=24"], ["false", "false"]),
        (["48+24=75", "75÷3=25"], ["false", "tainted"]),
        (["48+17=65", "65÷3≈21.7"], ["foreign", "tainted"]),
        (["先求总数", "48+24=72"], ["prose", "holds"]),
        (["1+1=2", "48+24=72"], ["filler", "holds"]),
        (["48+0=48", "48×1=48", "48-0=48"], ["filler", "filler", "repeated"]),
        (["48+24=72", "48+24=72", "24+48=72", "72-24=48", "４８＋２４＝７２"], ["holds", *["repeated"] * 4]),
        (["一包有17个，所以48+17=65"], ["tainted"]),
        (["他还有17个", "48+17=65", "65+24=89"], ["prose", "tainted", "tainted"]),
        (["48 = 72 - 24", "买来24，即二十四，48+24=72"], ["holds", "repeated"]),
        (["48+24=50+22=72", "72÷3=24"], ["holds", "holds"]),
    ],
)
def test_judge_steps(steps, verdicts):
    assert judge_steps(steps, CONTEXT) == verdicts


def test_values_and_the_first_wrong_one():
    verdicts = step_verdicts(["想一想", "48+24=72", "72÷3=25", "25+1=26"], CONTEXT)
    assert verdicts == [None, 1.0, 0.0, None]
    assert first_wrong(verdicts) == 2
    assert first_wrong([None, 1.0]) is None


def test_what_leads_nowhere_counts_for_nothing_once_the_answer_is_known():
    steps = ["48-24=24", "48+24=72", "72÷3=24"]
    assert judge_steps(["48×24=1152", "48+24=72", "72÷3=24"], CONTEXT, "24个") == ["unused", "holds", "holds"]
    assert judge_steps(steps, CONTEXT, "24个")[1:] == ["holds", "holds"]
