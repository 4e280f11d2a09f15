"""What rows say about generations that were cut, under every name and in every layout."""

import pytest
from trace_files import one

Q, R = "3+4=?", "<think>首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。</think>7"


@pytest.mark.parametrize(
    "flag",
    [
        *({"finish_reasons": ["length"]}, {"finish_reasons": "length"}, {"finish_reason": "length"}),
        *(
            {"stop_reasons": ["max_tokens"]},
            {"finishReason": "MAX_TOKENS"},
            {"finish_reasons": ["FinishReason.LENGTH"]},
        ),
    ],
)
def test_the_only_generation_was_cut(tmp_path, flag):
    assert one(tmp_path, {"problem": Q, "answer": "7", "generations": [R], **flag}).truncated


def test_another_generation_is_taken(tmp_path):
    row = {"problem": Q, "answer": "7", "generations": ["<think>一", R], "stop_reasons": ["length", "stop"]}
    trace = one(tmp_path, row)
    assert not trace.truncated and trace.answer == "7"


@pytest.mark.parametrize(
    "flag",
    [
        *({"finish_reason": "FinishReason.MAX_TOKENS"}, {"completed": False}, {"是否截断": "是"}, {"截斷": True}),
        *(
            {"是否完整": "否"},
            {"metadata": {"finish_reason": "length"}},
            {"response_metadata": {"stop_reason": "max_tokens"}},
        ),
    ],
)
def test_signs_of_a_row_and_of_a_message(tmp_path, flag):
    assert one(tmp_path, {"question": Q, "response": R, **flag}).truncated
    turns = [{"role": "user", "content": Q}, {"role": "assistant", "content": R, **flag}]
    assert one(tmp_path, {"messages": turns}).truncated


@pytest.mark.parametrize(
    "flag", [{"finish_reason": "stop"}, {"是否截断": "否"}, {"completed": "yes"}, {"metadata": {}}]
)
def test_nothing_was_cut(tmp_path, flag):
    assert not one(tmp_path, {"question": Q, "response": R, **flag}).truncated
