"""繁體中文 is read as simplified Chinese from the labels of steps to the checks of answers."""

import pytest

from hf_reason.data.clean.contradictions import contradicts_chain
from hf_reason.data.languages import cjk_ratio, detect_language
from hf_reason.data.record import make_record
from hf_reason.data.segment.steps import split_steps
from hf_reason.text.render import completion_pieces, parse

CHAIN = "步驟1:先求總數,3×36=108支。\n步驟2:然後平均分,108÷4=27支。\n步驟3:因此,每班27支。"
STEPS = ["先求總數,3×36=108支。", "然後平均分,108÷4=27支。", "因此,每班27支。"]


def test_a_chain_and_a_completion_have_their_steps() -> None:
    assert split_steps(CHAIN) == STEPS
    parsed = parse(f"<think>\n{CHAIN}\n</think>\n\n27支")
    assert (parsed.steps, parsed.answer, parsed.closed) == (STEPS, "27支", True)
    assert parse(CHAIN).steps == STEPS


def test_a_step_that_quotes_labels_comes_back() -> None:
    steps = ["甲說:\n步驟1:先加\n步骤2:再減", "  步驟2:乙說"]
    pieces = completion_pieces(make_record("問", steps, "答"), "")
    parsed = parse("".join(text for text, _ in pieces))
    assert [step.strip() for step in parsed.steps] == [step.strip() for step in steps]


@pytest.mark.parametrize("steps", [["先算36×3", "結果是108支。"], ["先算", "總共108支"]])
def test_contradictions(steps: list[str]) -> None:
    assert contradicts_chain(steps, "27支")
    assert not contradicts_chain(steps, "108支")


def test_it_is_chinese() -> None:
    assert detect_language(CHAIN) == "zh"
    assert cjk_ratio(CHAIN) == 1.0
