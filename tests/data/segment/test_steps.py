"""Segmentation: nothing is lost, blocks stay whole, numbering goes and content stays."""

import re

import pytest
from cpu_time import ends_within, is_linear
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.data.segment.protected_spans import blocks, disjoint
from hf_reason.data.segment.steps import segment_chain, split_steps, strip_numbering, strip_sequence

FRAGMENTS = st.sampled_from(
    [
        "首先，",
        "所以",
        "Wait, ",
        "So ",
        "步骤1：",
        "步骤2：",
        "1. ",
        "2. ",
        "(1) ",
        "①",
        "Step 1: ",
        "\n",
        "\n\n",
        "。",
        ". ",
        "3.14",
        "e.g. ",
    ]
    + [
        "```",
        "```py\n",
        "$$",
        "$",
        "\\[",
        "\\]",
        "\\(",
        "\\)",
        "\\begin{align}",
        "\\end{align}",
        "| a | b |\n",
        "|---|---|\n",
    ]
    + [
        "**",
        "# ",
        "- ",
        "\\",
        "`",
        "  ",
        "\t",
        "\r\n",
        "36×12=432",
        "；",
        "!?",
        "甲乙丙",
        "the sum is",
        "\u2028",
        "．",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=60).map("".join)))
def test_joining_the_pieces_gives_the_chain_back(text):
    pieces = segment_chain(text)
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(step == step.strip() and step for step in split_steps(text))


@settings(max_examples=200, deadline=None)
@given(st.lists(FRAGMENTS, max_size=60).map("".join))
def test_no_cut_falls_inside_a_block(text):
    position = 0
    spans = blocks(text)
    for piece in segment_chain(text):
        position += len(piece)
        assert not [span for span in spans if span[0] < position < span[1]]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["36×12=432", "3.5×2=7", "12 + 4 = 16", "答案是9", "x = 5", "(3+4)×2=14"]),
        min_size=2,
        max_size=12,
    )
)
@pytest.mark.parametrize(
    "number", ["步骤{}：", "步骤{}: ", "第{}步，", "Step {}. ", "Step {}: ", "{}. ", "{}) ", "({}) ", "（{}）", "{}、"]
)
def test_numbering_of_any_style_goes_and_the_step_stays(number, steps):
    chain = "\n".join(number.format(index) + step for index, step in enumerate(steps, 1))
    assert split_steps(chain) == steps


@pytest.mark.parametrize(
    ("chain", "steps"),
    [
        ("步骤一：甲。步骤二：乙。步骤三：丙。", ["甲。", "乙。", "丙。"]),
        ("第一步，算甲。第二步，算乙。", ["算甲。", "算乙。"]),
        ("步骤1: 甲 步骤2: 乙 步骤3: 丙", ["甲", "乙", "丙"]),
        ("① 3+4=7 ② 7×2=14 ③ 答案14", ["3+4=7", "7×2=14", "答案14"]),
        ("(1) a;\n(2) b;\n(3) c", ["a;", "b;", "c"]),
        ("一、先看题。\n二、再计算。\n三、验算。", ["先看题。", "再计算。", "验算。"]),
        ("**Step 1:** a\n\n**Step 2: B** c\n\n### Step 3\nd", ["a", "**B** c", "d"]),
        ("解题如下：\n1. 甲\n2. 乙\n\n所以答案是5。", ["解题如下：", "甲", "乙", "所以答案是5。"]),
        ("1. a\n   1. b\n   2. c\n2. d", ["a\n   1. b\n   2. c", "d"]),
        ("步骤1：甲\n(1) 子\n(2) 丑\n步骤2：乙", ["甲\n(1) 子\n(2) 丑", "乙"]),
        ("步骤1：先算。然后再算。\n步骤2：所以完成。", ["先算。然后再算。", "所以完成。"]),
    ],
)
def test_numbered_chains(chain, steps):
    assert split_steps(chain) == steps


@pytest.mark.parametrize(
    "chain",
    [
        "3.5×2=7\n2.5×2=5\n所以是12",  # decimals
        "12 + 4 = 16\n16 - 2 = 14\n14 ÷ 7 = 2",
        "3. 不是编号\n7. 也不是\n5. 都不是",  # out of sequence
        "①+②得 3x=6。\n所以x=2。\n②-①得y=1。",  # names of equations
        "(1) + (2) = 3\n(2) - (1) = 1\n完",
        "有三个数：1、2、3、4。\n所以最大的是4。\n答案是4。",
        "步骤1和步骤2都对。\n步骤2和步骤3也对。\n完成了。",
    ],
)
def test_a_number_that_is_content_stays(chain):
    assert re.sub(r"\s", "", "".join(split_steps(chain))) == re.sub(r"\s", "", chain)


@pytest.mark.parametrize(
    ("step", "bare"),
    [
        ("步骤12：3.5×2=7", "3.5×2=7"),
        ("Step 3. 12 + 4 = 16", "12 + 4 = 16"),
        ("(2) done", "done"),
        ("③ 完成", "完成"),
        ("3.5×2=7", "3.5×2=7"),
        ("12 + 4 = 16", "12 + 4 = 16"),
        ("第一步是化简", "第一步是化简"),
        ("①+②得3", "①+②得3"),
        ("步骤2", "步骤2"),
    ],
)
def test_strip_numbering(step, bare):
    assert strip_numbering(step) == bare


def test_a_list_of_steps_loses_its_numbering_only_in_sequence():
    assert strip_sequence(["1. a", "2. b", "3. c"]) == ["a", "b", "c"]
    assert strip_sequence(["步骤1：a"]) == ["a"]
    assert strip_sequence(["1. a", "5. b"]) == ["1. a", "5. b"]
    assert strip_sequence(["1. a", "b", "2. c"]) == ["1. a", "b", "2. c"]
    assert strip_sequence([]) == []


@pytest.mark.parametrize(
    ("chain", "pieces"),
    [
        ("首先，3+4=7。然后乘以2得14。所以答案是14。", ["首先，3+4=7。", "然后乘以2得14。", "所以答案是14。"]),
        (
            "Take 3+4=7. Next, 7*2=14. Wait, check it. Therefore 14.",
            ["Take 3+4=7. ", "Next, 7*2=14. ", "Wait, check it. ", "Therefore 14."],
        ),
        (
            "We need x and y.\n\nThe sum is 12.\n\nIt holds.",
            ["We need x and y.\n\n", "The sum is 12.\n\n", "It holds."],
        ),
        (
            "甲等于3。乙等于4！丙呢？丙等于7；完成了全部。",
            ["甲等于3。", "乙等于4！", "丙呢？丙等于7；", "完成了全部。"],
        ),
        ("x is 3.5 kg, e.g. a bag. y is 2. z is 5.5", ["x is 3.5 kg, e.g. a bag. ", "y is 2. ", "z is 5.5"]),
        ("48/2 = 24 in May\nSold 48+24 = 72\n72 is it", ["48/2 = 24 in May\n", "Sold 48+24 = 72\n", "72 is it"]),
    ],
)
def test_prose(chain, pieces):
    assert segment_chain(chain) == pieces


def test_a_word_that_only_begins_like_a_marker_is_none():
    chain = "One. Something is here, and nothing is there. Thenceforth it goes on.\n\nTwo of them.\n\nThree of them."
    assert len(segment_chain(chain)) == 3


def test_a_mere_interjection_is_not_a_step():
    assert (
        split_steps("好的。\n\n首先看题目要求什么。\n\n然后列式3+4=7。\n\n所以答案是7。")[0]
        == "好的。\n\n首先看题目要求什么。"
    )


def test_many_sentences_are_grouped():
    steps = split_steps("".join(f"这是第{index}个没有任何连接词的普通句子。" for index in range(60)))
    assert 3 <= len(steps) < 30
    assert all(step.endswith("。") for step in steps)


@pytest.mark.parametrize(
    "block",
    [
        "```python\nx = 1\n\n# So the next\nprint(x)\n```",
        "| 项 | 值 |\n|---|---|\n| 首先。 | 1 |\n| 所以。 | 2 |",
        "a | b\n--- | ---\nSo. | 1",
        "$$\nx = 1. \nSo y\n$$",
        "\\[\nx = 1\n\nSo y = 2\n\\]",
        "\\begin{align}\nx &= 1. \\\\\n\nSo y &= 2\n\\end{align}",
        "\\(x. So y\\)",
        "$x. So y$",
        "`x. So y`",
    ],
)
def test_blocks_stay_whole(block):
    chain = f"首先看下面。\n\n{block}\n\n所以答案是5。\n\n最后检查一遍。"
    pieces = segment_chain(chain)
    assert len(pieces) >= 3
    assert [piece for piece in pieces if block in piece]


def test_prices_are_no_formula():
    assert len(segment_chain("It costs $5. So far so good. Then $10 is paid.")) == 3


def test_an_unclosed_formula_protects_nothing():
    assert len(segment_chain("Let \\[ x = 1. So y = 2.\n\nThen z = 3.\n\nTherefore 6.")) == 4


@pytest.mark.parametrize(
    "unit",
    [
        "首先，3+4=7。然后得14。So what? ",
        " ",
        "\n",
        ". ",
        "$a ",
        "\\(",
        "\\\\(",
        "```\n",
        "|a|\n",
        "1.\n2.\n",
        "步骤1：a\n步骤2：b\n",
        "#",
        "So\n",
        "(1)",
    ],
)
def test_a_long_chain_takes_linear_time(unit):
    def segment(size: int) -> None:
        text = unit * (size // len(unit))
        assert "".join(segment_chain(text)) == text

    assert is_linear(segment, 10_000)


def test_a_megabyte_is_fast():
    text = "首先，我们有3+4=7。Then we go on, e.g. with $x$. \n\n" * 20_000
    assert ends_within(15, lambda: segment_chain(text))


def test_spans_that_overlap_are_one():
    assert disjoint([(5, 9), (0, 4), (2, 3), (8, 12), (12, 13)]) == [(0, 4), (5, 12), (12, 13)]
