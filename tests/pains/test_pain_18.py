"""Pain 18, huggingface/trl#6966, huggingface/open-r1#86, #293, #557: rewards lie."""

import pytest
from trl.rewards import accuracy_reward, think_format_reward

from hf_reason.rewards import answer_reward, format_reward

CHAIN = "步骤1:一共有48+24=72个\n步骤2:每人72÷3=24个\n</think>\n\n每人24个。"
PREFILLED = "题<|assistant|><think>\n"


def test_plain_rewards_give_nothing_for_right_completions():
    message = [[{"role": "assistant", "content": CHAIN}]]
    assert think_format_reward(message) == [0.0], "the prompt has opened the thought"
    assert accuracy_reward(message, ["24"]) == [0.0], "only LaTeX is read"


def test_a_prefilled_thought_and_a_plain_answer_count():
    for completion, prompt in ((CHAIN, PREFILLED), ("<think>\n" + CHAIN, "题<|assistant|>")):
        assert format_reward([completion], [prompt]) == [1.0]
        assert answer_reward([completion], [prompt], answer=["24"]) == [1.0]


@pytest.mark.parametrize(
    ("answer", "reference", "reward"),
    [
        ("合同无效，应当返还。", "因为合同违反了强制性规定，所以无效", None),
        ("24", "", None),
        ("24", None, None),
        ("我不知道", "24", 0.0),
        ("24或25", "24", 0.0),
        (r"\boxed{24}", "24", 1.0),
    ],
)
def test_what_nobody_can_verify_is_none_and_a_guess_is_wrong(answer, reference, reward):
    assert answer_reward([f"想\n</think>\n\n{answer}"], [PREFILLED], answer=[reference]) == [reward]


def test_arguments_are_taken_by_name_and_never_exchanged():
    """A part of the reference is no answer, and the order of the keywords is nothing."""
    assert answer_reward(["想</think>3"], [PREFILLED], answer=["3、5"]) == [0.0]
    told = {"completions": ["想</think>24", "想</think>25"], "prompts": [PREFILLED] * 2, "answer": ["24", "24"]}
    assert answer_reward(**told) == answer_reward(**dict(reversed(told.items()))) == [1.0, 0.0]
    with pytest.raises(ValueError, match="needs a reference"):
        answer_reward(["24"], [PREFILLED])
