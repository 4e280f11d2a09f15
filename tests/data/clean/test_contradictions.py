"""An answer that contradicts its chain is seen; what cannot be decided is no contradiction."""

import pytest

from hf_reason.data.clean.contradictions import contradicts_chain
from hf_reason.data.synthetic.word_problems import generate_word_problems


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (["3+4=7", "所以一共7个"], "8个"),
        (["5×12=60", "60+40=100"], "答案是90。"),
        (["12÷3=4（个）"], "每人分到5个"),
        (["选项A不对", "所以选C。"], "B"),
        (["She pays 48 + 16 = 64 dollars."], "66"),
        (["3+4=7"], r"\boxed{9}"),
        (["So it costs 7 * $0.07 = $0.49"], "59"),
    ],
)
def test_contradictions(steps, answer):
    assert contradicts_chain(steps, answer)


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        (["3+4=7"], "7个"),
        (["先算3+4=7", "验算：7-4=3，正确"], "一共7个。"),
        (["所以选C。"], r"\boxed{C}"),
        (["1÷3=0.33"], "三分之一"),
        (["占1÷4=0.25"], "25%"),
        (["一共1.5小时"], "90分钟"),
        (["一共3小时20分钟"], "200分钟"),
        (["So her TV cost 3.5 kw hours/week * $0.14/kw hour = $0.49/week"], "49"),  # cents were asked for
        (["减少了60÷300=0.2"], "20"),  # "百分之几"
        (["5×2=10元，涨了3元", "所以价格上涨"], "上涨30%"),
        (["小明7岁，所以无效。", "取得的财产应当返还。"], "父母可以要求返还2000元。"),
        (["北京是首都"], "北京"),
        (["x=5", "y=3"], "x=5,y=3"),
        ([], "7"),
        (["3+4=7"], ""),
    ],
)
def test_what_agrees_or_cannot_be_decided(steps, answer):
    assert not contradicts_chain(steps, answer)


def test_generated_problems_agree_until_their_answer_is_changed():
    rows = list(generate_word_problems(200))
    assert not any(contradicts_chain(row["steps"], row["answer"]) for row in rows)
    changed = [(row["steps"], "1" + row["answer"]) for row in rows]
    assert sum(contradicts_chain(steps, answer) for steps, answer in changed) > 190
