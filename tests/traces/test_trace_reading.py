"""What teachers write, in steps, and the verdicts on it."""

import pytest

from hf_reason.data.record import make_record
from hf_reason.traces.reading import steps_and_answer, verified

PROSE = "首先,12+25=37。\n\n其次,没有别的了。"
PROBLEM = make_record("小明有12个苹果,又买来25个。现在有多少个?", [], "37个")


@pytest.mark.parametrize(
    ("content", "thought", "steps", "answer", "closed"),
    [
        ("<think>\n步骤1:12+25=37\n步骤2:共37个\n</think>\n\n37个", None, ["12+25=37", "共37个"], "37个", True),
        ("37个", "步骤1:12+25=37\n步骤2:共37个", ["12+25=37", "共37个"], "37个", True),
        ("答案是37个。", PROSE, ["首先,12+25=37。", "其次,没有别的了。"], "答案是37个。", True),
        (f"<think>{PROSE}</think>37", None, ["首先,12+25=37。", "其次,没有别的了。"], "37", True),
        ("<think>\n步骤1:12+2", None, ["12+2"], "", False),
        (
            "1. 先算总数:12+25=37。\n2. 没有减少。\n\n答案:37",
            None,
            ["先算总数:12+25=37。", "没有减少。"],
            "答案:37",
            True,
        ),
    ],
)
def test_steps_and_answer(content, thought, steps, answer, closed):
    assert steps_and_answer(content, thought) == (steps, answer, closed)


def _verified(content, thought="步骤1:12+25=37", steps="equations", record=PROBLEM, **more):
    row = {"id": "x", "sample": 0, "content": content, "thought": thought, "ended": True, "completion_tokens": 7}
    return verified({**row, **more}, record, steps)


def test_a_right_chain_is_right():
    found = _verified("一共37个")
    assert found.right and found.finished and found.wrong_step is None and found.num_tokens == 7


@pytest.mark.parametrize(
    ("content", "more"),
    [("36个", {}), ("", {}), ("37个", {"ended": False}), ("37个", {"forced": True}), ("37或38", {})],
    ids=["wrong", "no answer", "cut", "closed by force", "two candidates"],
)
def test_what_is_not_right(content, more):
    found = _verified(content, **more)
    assert found.correct is False and not found.right


def test_steps_are_verified_as_far_as_asked():
    wrong, foreign = "步骤1:12+25=37\n步骤2:3+4=8", "步骤1:12+25=37\n步骤2:97+468=565"
    assert [_verified("37", wrong, kind).wrong_step for kind in ("none", "equations", "numbers")] == [None, 2, 2]
    assert [_verified("37", foreign, kind).wrong_step for kind in ("none", "equations", "numbers")] == [None, None, 2]
    assert _verified("12+25=38,所以是37个").wrong_step == 2, "the answer is looked at, too"


def test_what_nobody_can_tell_is_neither_right_nor_wrong():
    open_question = make_record("为什么天空是蓝色的?", [], "因为瑞利散射。")
    assert _verified("阳光被空气散射。", record=open_question).correct is None
    unknown = make_record("小明有12个苹果,又买来25个。现在有多少个?", [], "")
    assert _verified("37个", record=unknown).correct is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("先算 56÷2=28。\n\n因此，平均每组有 \\(\\boxed{7}\\) 人。", "因此，平均每组有 \\(\\boxed{7}\\) 人。"),
        ("先算 56÷2=28。所以每组有7人。", "所以每组有7人。"),
        ("28÷4=7\n\n所以答案是：\n\\[\n\\boxed{7}\n\\]", "所以答案是：\n\\[\n\\boxed{7}\n\\]"),
        ("28÷4=7\n\nThe answer is\n$$\n\\boxed{7}\n$$", "$$\n\\boxed{7}\n$$"),
        ("We get 28 / 4 = 7. So each group has 7.5 people.", "So each group has 7.5 people."),
        ("7", "7"),
    ],
)
def test_the_answer_of_prose_is_a_whole_sentence(text, answer):
    assert steps_and_answer(text)[1] == answer
