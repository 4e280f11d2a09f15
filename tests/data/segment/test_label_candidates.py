"""Where a label may begin is decided by a quick pattern, which must not lose what the whole one finds."""

import random

import pytest

from hf_reason.data.segment.labels import _FIND, _candidates

LABELS = [
    *(
        "步骤1",
        "步骤十二",
        "第3步",
        "第三个步骤",
        "第一问",
        "第(2)小题",
        "第二部分",
        "第三阶段",
        "第1种方法",
        "情况一",
    ),
    *("情形2", "方法B:", "解法(3)", "方案四", "思路一", "思路2", "小问1", "问题2", "问3", "小题4", "阶段Ⅱ", "部分1"),
    *("Step 2", "step two", "STEP#3", "Part A:", "method 1.", "Case b)", "1.", "12．", "3)", "4）", "(5)", "（6）"),
    *(
        "①",
        "②",
        "❸",
        "⑷",
        "⒌",
        "㈥",
        "7、",
        "八、",
        "十二、",
        "九．x",
        "(三)",
        "（十）",
        "Ⅳ.",
        "iv)",
        "(ix)",
        "VI、甲",
    ),
    *("a)", "(b)", "A.", "B、", "C：", "D）", "(E)", "[步骤1]", "【步骤2】", "１．甲", "１２、乙"),
]


def _spans(matches):
    return [match.span() for match in matches]


@pytest.mark.parametrize("label", LABELS)
def test_no_kind_of_label_is_lost(label):
    for text in (label, f"{label} 甲加乙", f"先看。{label}:3+4=7", f"\n{label}\n", f"x{label}y"):
        assert _spans(_candidates(text, len(text))) == _spans(_FIND.finditer(text))
    assert any(_spans(_FIND.finditer(text)) for text in (label, f"{label} 甲", f"{label}\n")) or label.isascii()


def test_nor_in_texts_of_their_characters():
    letters = sorted({letter for label in LABELS for letter in label} | set(" \n。=+甲"))
    for seed in range(300):
        text = "".join(random.Random(seed).choices(letters, k=80))
        assert _spans(_candidates(text, len(text))) == _spans(_FIND.finditer(text)), text
