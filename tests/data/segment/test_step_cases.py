"""Chains and their steps, from `step_cases.yaml`; half of the cases must not be cut."""

from pathlib import Path

import pytest
import yaml
from cpu_time import is_linear
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.answers.traditional import simplified
from hf_reason.data.segment.steps import segment_chain, split_steps, strip_numbering, strip_sequence

_TABLE = yaml.safe_load(Path(__file__).with_name("step_cases.yaml").read_text(encoding="utf-8"))
_CASES = [pytest.param(case, id=f"{kind}-{i}") for kind, cases in _TABLE.items() for i, case in enumerate(cases)]
_PLAIN = [
    "36×12=432",
    "首先算甲。",
    "所以答案是9。",
    "So x=5.",
    "The sum is 12, ",
    "约为3.5倍；",
    "然後再算",
    "Wait, no!",
    " ",
]
_PIECES = [
    "第一问",
    "第二問",
    "方法一：",
    "Part (a)",
    "步骤1：",
    "步驟2：",
    "Step 1: ",
    "1. ",
    "2.",
    "1)",
    "(2)",
    "一、",
    "（二）",
]
_MORE = [
    "①",
    "②",
    "⑵",
    "I. ",
    "ii) ",
    "a) ",
    "A. ",
    "B. ",
    "已知：",
    "——",
    "\n",
    "\n\n",
    "\n  ",
    "\t",
    "\u3000",
    "；",
    "：",
    ",",
]


@pytest.mark.parametrize("case", _CASES)
def test_a_chain_is_cut_where_its_numbering_says(case):
    chain = case["chain"]
    steps = split_steps(chain)
    assert "".join(segment_chain(chain)) == chain
    if "steps" in case:
        assert steps == case["steps"]
    assert len(steps) == case.get("count", len(steps)), steps
    for phrase in case.get("whole", []):
        assert any(phrase in step for step in steps), (phrase, steps)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*_PLAIN, *_PIECES, *_MORE]), max_size=40).map("".join))
def test_no_mixture_of_numberings_loses_a_character(chain):
    pieces = segment_chain(chain)
    assert "".join(pieces) == chain
    assert len(split_steps(chain)) <= len(pieces)
    # Traditional characters are cut where the simplified ones are.
    assert [len(piece) for piece in segment_chain(simplified(chain))] == [len(piece) for piece in pieces]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(_PLAIN), min_size=3, max_size=30).map("".join))
def test_steps_that_are_numbered_and_cut_again_are_the_same_steps(chain):
    steps = split_steps(chain)
    if len(steps) > 1:
        assert split_steps("\n".join(f"步骤{i}：{step}" for i, step in enumerate(steps, 1))) == steps


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(["36×12=432元", "3.5×2=7", "求单价，12÷3=4", "x=5", "把(3+4)×2算出来得14"]),
        min_size=2,
        max_size=9,
    ),
    st.sampled_from(["；", "。"]),
    st.sampled_from(["", "以下几点：", "我们按顺序来。"]),
)
@pytest.mark.parametrize(
    "number", ["{}. ", "{}) ", "（{}）", "{}、", "步骤{}：", "第{}步，", "Step {}: ", "【步骤{}】"]
)
def test_numbering_in_one_line_goes_and_the_step_stays(number, steps, end, stem):
    chain = stem + "".join(number.format(index) + step + end for index, step in enumerate(steps, 1))
    assert split_steps(chain) == [stem + steps[0] + end, *(step + end for step in steps[1:])]


@pytest.mark.parametrize(
    ("step", "bare"),
    [
        ("步驟三：7×2=14", "7×2=14"),
        ("⑵ done", "done"),
        ("Ⅱ. 7×2=14", "7×2=14"),
        ("【步骤2】7×2=14", "7×2=14"),
        ("Step 2/3: 7*2=14", "7*2=14"),
        ("A. 3", "A. 3"),
        ("第一问：求甲", "第一问：求甲"),
    ],
)
def test_numbers_in_other_scripts_are_stripped_and_names_stay(step, bare):
    assert strip_numbering(step) == bare


def test_a_list_in_traditional_characters_loses_its_numbering():
    assert strip_sequence(["第一步：甲", "第二步：乙"]) == ["甲", "乙"]
    assert strip_sequence(["步驟一：甲", "步驟二：乙"]) == ["甲", "乙"]


def test_a_list_that_starts_again_loses_its_numbering():
    assert strip_sequence(["步骤1：甲", "步骤2：乙", "步骤1：丙", "步骤2：丁"]) == ["甲", "乙", "丙", "丁"]
    assert strip_sequence(["1. a", "2. b", "7. c"]) == ["1. a", "2. b", "7. c"]


@pytest.mark.parametrize(
    "unit", ["1.2.", "1. ", "：1) a：2) b", "1.\n\t1.\n", "第一问\n步骤1：甲\n步骤2：乙\n", "A. b "]
)
def test_200_000_characters_take_linear_time(unit):
    def segment(size: int) -> None:
        text = unit * (size // len(unit))
        assert "".join(segment_chain(text)) == text

    assert is_linear(segment, 20_000)
