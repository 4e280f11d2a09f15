"""The rewards on single completions: TRL's signature, all forms of prompts and completions, and each formula."""

import math
import pickle

import pytest

from hf_reason import rewards
from hf_reason.rewards import (
    answer_reward,
    format_reward,
    get_answer_reward,
    get_cosine_length_reward,
    get_format_reward,
    get_language_reward,
    get_length_reward,
    get_repetition_reward,
    language_reward,
    repetition_reward,
    step_reward,
)

CONTEXT = "小明有48个苹果，妈妈又买来24个，平均分给3个朋友，每人几个？"
STEPS = ["一共有48+24=72个", "每人72÷3=24个"]
GOOD = "<think>\n步骤1:一共有48+24=72个\n步骤2:每人72÷3=24个\n</think>\n\n24个"
BARE = GOOD.removeprefix("<think>\n")
OPENED, CLOSED = "问题:...\n<think>\n", "问题:...\n<think>\n\n</think>\n\n"
COLUMNS = {"context": [CONTEXT], "task": [""], "steps": [STEPS], "answer": ["24"]}
EVERY = [answer_reward, step_reward, format_reward, language_reward, repetition_reward]


def one(function, completion, prompt="问题:...", **columns):
    """The reward of one completion, called as TRL's trainers call: keywords only, and more of them than needed."""
    columns = {**COLUMNS, **columns}
    told = {"prompts": [prompt], "completions": [completion], "completion_ids": [list(range(20))]}
    [reward] = function(**told, **columns, trainer_state=None, log_extra=print, log_metric=print)
    return reward


@pytest.mark.parametrize("function", EVERY)
def test_plain_conversational_and_prefilled_completions_get_the_same(function):
    best = 0.0 if function is repetition_reward else 1.0
    messages = [{"role": "assistant", "content": GOOD}]
    apart = [{"role": "assistant", "reasoning_content": BARE.partition("\n</think>")[0], "content": "24个"}]
    parts = [{"role": "assistant", "content": [{"type": "text", "text": GOOD}]}]
    user = [{"role": "user", "content": CONTEXT}]
    assert one(function, GOOD) == best
    assert one(function, BARE, prompt=OPENED) == best
    assert one(function, GOOD, prompt=OPENED) == best  # a model that writes the tag again
    for completion in (messages, apart, parts):
        assert one(function, completion, prompt=user) == best
    assert function(completions=[], prompts=[], **{name: [] for name in COLUMNS}) == []


def test_a_template_without_a_thought():
    assert one(answer_reward, "24个", prompt=CLOSED) == 1.0
    assert one(format_reward, "24个", prompt=CLOSED) == 1.0
    assert one(format_reward, GOOD, prompt=CLOSED) == 0.0
    assert one(get_format_reward(thinking=False), "一共72个，每人24个") == 1.0


def test_the_problem_is_read_from_the_prompt_where_there_is_no_column():
    wrong = GOOD.replace("48+24=72", "48+25=73").replace("72÷3", "73÷3")
    for prompt in (f"问题:{CONTEXT}\n回答:", [{"role": "user", "content": CONTEXT}]):
        [right, foreign] = step_reward([GOOD, wrong], [prompt] * 2)
        assert (right, foreign) == (1.0, 0.0)
        assert language_reward([GOOD], [prompt]) == [1.0]


# answer_reward


@pytest.mark.parametrize(
    ("answer", "reference", "reward"),
    [
        ("24个", "24", 1.0),
        ("二十四", "24", 1.0),
        ("２４個", "24", 1.0),
        ("每人\\boxed{24}个", "24", 1.0),
        ("答案是25", "24", 0.0),
        ("我不知道", "24", 0.0),  # nothing can be read of it, and the reference is exact
        ("我不知道", "因为合同无效，所以应当返还", None),
        ("24", "", None),
        ("24", None, None),
        ("1,200元", "1200", 1.0),
        ("3/4", "0.75", 1.0),
        ("答案可能是23、25、24", "24", 0.0),
        ("23或24", "24", 0.0),
        ("24，也可能是25", "24", 0.0),
        ("25, 23 or 24.", "24", 0.0),
        ("\\boxed{23} \\boxed{24}", "24", 0.0),
        ("3和5", "3、5", 1.0),  # a list where a list is asked for
        ("B", "B", 1.0),
        ("A或B", "B", 0.0),
    ],
)
def test_answers(answer, reference, reward):
    assert one(answer_reward, BARE.replace("24个", "x")[:-1] + answer, prompt=OPENED, answer=[reference]) == reward


def test_completion_and_reference_are_not_exchanged():
    """A part of the reference's list, or a unit more, is judged from the reference's side."""
    assert one(answer_reward, "<think>\n步骤1:a\n</think>\n\n经过计算，答案是24个。", answer=["24"]) == 1.0
    long = "经过计算，答案是24个，不是25个。"
    assert one(answer_reward, f"<think>\n步骤1:a\n</think>\n\n{long}", answer=["24"]) == 1.0
    assert one(answer_reward, "<think>\n步骤1:a\n</think>\n\n3", answer=["3;5"]) is not True
    both = answer_reward(["x</think>24", "x</think>25"], None, answer=["24", "24"])
    assert both == answer_reward(completions=["x</think>24", "x</think>25"], solution=["24", "24"]) == [1.0, 0.0]


def test_a_thought_that_was_cut_has_no_answer():
    cut = "我们先算48+24=72，再算72÷3=24"
    assert one(answer_reward, cut, prompt=OPENED) == 0.0
    assert one(answer_reward, f"<think>\n{cut}") == 0.0
    # messages do not show what the template has opened; the setting says it
    user = [{"role": "user", "content": CONTEXT}]
    assert one(answer_reward, cut, prompt=user) == 1.0
    assert one(get_answer_reward(thinking=True), cut, prompt=user) == 0.0


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="answer_reward needs a reference.*'answer' \\(or 'solution'\\).*context"):
        answer_reward([GOOD], context=[CONTEXT])
    with pytest.raises(ValueError, match="answer must be a list with a value for each of the 2 completions, got 1"):
        answer_reward([GOOD, GOOD], answer=["24"])
    with pytest.raises(ValueError, match="answer must be a list.*got one string"):
        answer_reward([GOOD, GOOD], answer="24")
    with pytest.raises(ValueError, match="completion_ids"):
        get_length_reward(100, 20)([GOOD])


# step_reward


def test_step_reward_is_the_fraction_of_right_steps():
    half = GOOD.replace("72÷3=24", "72÷3=25")
    assert one(step_reward, half) == 0.5
    assert one(step_reward, "<think>\n步骤1:想一想\n</think>\n\n24") == 0.0
    assert (
        one(
            step_reward,
            "<think>\n步骤1:想一想\n</think>\n\n有效",
            context=["合同是否有效？"],
            steps=[["想"]],
            answer=["有效"],
        )
        is None
    )


def test_a_thought_in_prose_is_cut_into_steps():
    prose = "首先，一共有48+24=72个苹果。\n\n然后，每人72÷3=25个。\n\n所以每人25个。"
    assert one(step_reward, f"<think>\n{prose}\n</think>\n\n25个") == 0.5


def test_an_error_is_not_diluted_and_long_right_chains_lose_nothing():
    wrong = ["48+24=72", "72÷3=25"]
    fine = [f"{72 + n}+1={73 + n}" for n in range(20)]
    rewards = []
    for steps in (
        wrong,
        [*wrong[:1], *fine, wrong[1]],
        [*STEPS, "检查：24×3=72", "检查：72-24=48", "48+24=72个，没有错"],
    ):
        text = "<think>\n" + "".join(f"步骤{n}:{step}\n" for n, step in enumerate(steps, 1)) + "</think>\n\n24"
        rewards.append(one(step_reward, text))
    assert rewards[1] <= rewards[0] < rewards[2] == 1.0


# format_reward


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (GOOD, 1.0),
        (GOOD.replace("步骤", "步驟"), 1.0),
        (GOOD.replace("步骤2", "步骤3"), 2 / 3),
        (GOOD.replace("步骤1:", "").replace("步骤2:", ""), 2 / 3),
        (GOOD.replace("步骤2:每人72÷3=24个", "步骤2:"), 2 / 3),
        (GOOD.removesuffix("24个"), 2 / 3),
        (GOOD + "\n步骤1:再来", 2 / 3),
        (GOOD + "</think>24", 0.0),
        ("<think>" + GOOD, 0.0),
        ("<think>\n</think>\n\n24", 0.0),
        ("<think>\n步骤1:\n步骤2:……\n</think>\n\n24", 0.0),
        ("24", 0.0),
    ],
)
def test_format(completion, reward):
    assert one(format_reward, completion) == pytest.approx(reward)


def test_format_of_models_that_think_in_prose():
    assert one(get_format_reward(numbered=False), "<think>\n先加后除，得24。\n</think>\n\n24") == 1.0
    assert one(get_format_reward(min_steps=3), GOOD) == pytest.approx(2 / 3)


# language_reward

_ENGLISH = "First we add the apples of both people and then we divide them among the three friends, so each one gets "


def test_language():
    drift = "<think>\n" + "我们先把两个人的苹果加起来，再平均分给三个朋友。" * 6 + _ENGLISH * 3 + "\n</think>\n\n24"
    assert one(language_reward, drift) < 0.2
    assert one(language_reward, f"<think>\n{_ENGLISH}\n</think>\n\n24个") < 0.2
    wide = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in _ENGLISH)
    assert one(language_reward, f"<think>\n{wide}\n</think>\n\n24个") < 0.2
    assert one(language_reward, "<think>\n我們先把兩個人的蘋果加起來，再平均分給三個朋友\n</think>\n\n24個") == 1.0
    assert one(language_reward, "<think>\n48+24=72\n</think>\n\n24") == 1.0  # nothing is foreign
    assert (
        one(language_reward, f"<think>\n{_ENGLISH}\n</think>\n\n24", context=["How many apples does each get?"]) == 1.0
    )
    assert one(language_reward, GOOD, context=["How many apples does each friend get?"]) < 0.2
    assert one(language_reward, GOOD, context=["Сколько яблок получит каждый из друзей?"]) is None
    assert one(get_language_reward("zh"), f"<think>\n{_ENGLISH}\n</think>\n\n24", context=["How many?"]) < 0.2


# length and repetition


def test_soft_overlong_penalty_agrees_with_trl():
    from trl.rewards import get_soft_overlong_punishment

    lengths = [0, 79, 80, 81, 90, 100, 101, 500]
    ids = [[1] * length for length in lengths]
    ours = get_length_reward(100, 20)(completions=[""] * len(ids), completion_ids=ids)
    assert ours == pytest.approx(get_soft_overlong_punishment(100, 20)(completion_ids=ids))


def test_cosine_schedule():
    reward = get_cosine_length_reward(100)
    ids = [[1] * length for length in (0, 50, 100, 400)]
    right = reward(completions=[GOOD] * 4, completion_ids=ids, answer=["24"] * 4)
    wrong = reward(completions=[GOOD] * 4, completion_ids=ids, answer=["25"] * 4)
    assert right == pytest.approx([1.0, 0.75, 0.5, 0.5])
    assert wrong == pytest.approx([-1.0, -0.75, -0.5, -0.5])
    assert min(right) > max(wrong)  # the longest right one is above every wrong one
    assert reward([GOOD], completion_ids=[[1]], answer=["有效"]) == [None]
    quarter = reward(completions=[GOOD], completion_ids=[[1] * 25], answer=["24"])
    assert quarter == pytest.approx([0.5 + 0.25 * (1 + math.cos(math.pi / 4))])
    with pytest.raises(ValueError, match="Every right completion"):
        get_cosine_length_reward(100, right=(1.0, -0.6))


def test_repetition():
    loop = "<think>\n" + "步骤1:我们再想一想这个问题到底应该怎么做才好。\n" * 40
    assert one(repetition_reward, loop) < -0.8
    steps = "".join(f"步骤{n}:48+24=72\n" for n in range(1, 9))
    assert one(repetition_reward, f"<think>\n{steps}</think>\n\n24") < -0.5
    assert one(get_repetition_reward(max_penalty=-0.5), loop) == pytest.approx(one(repetition_reward, loop) / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: get_length_reward(100, 0), "buffer must be between 1 and max_completion_length"),
        (lambda: get_length_reward(100, 200), "buffer must be between"),
        (lambda: get_cosine_length_reward(0), "max_completion_length must be at least 1"),
        (lambda: get_repetition_reward(free=1.0), "free must be in"),
        (lambda: get_repetition_reward(max_penalty=1.0), "max_penalty must not be positive"),
        (lambda: get_repetition_reward(ngram_size=0), "ngram_size must be at least 1"),
        (lambda: get_language_reward("fr"), "language must be 'zh', 'en' or None"),
        (lambda: get_language_reward(tolerance=1.0), "tolerance must be in"),
        (lambda: get_format_reward(min_steps=0), "min_steps must be at least 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_reward_has_a_name_for_the_log_and_can_be_sent_to_another_process():
    for function in (*EVERY, get_length_reward(10, 5), get_cosine_length_reward(10), get_format_reward()):
        assert function.__name__.endswith("_reward")
        assert pickle.loads(pickle.dumps(function)).__name__ == function.__name__
    assert {"answer_reward", "get_length_reward", "step_verdicts"} <= set(rewards.__all__)
