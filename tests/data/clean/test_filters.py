"""Every filter takes what it is for, leaves the rest alone, and the first one in the order is named."""

from dataclasses import replace
from typing import Any

import pytest

from hf_reason.data.clean.filters import FILTER_NAMES, FilterConfig, failed_filter, repeated_steps, repetition
from hf_reason.data.record import RawTrace, make_record

CONTEXT = "学校买来36盒粉笔，每盒12支，平均分给4个年级，每个年级分到多少支粉笔？"
STEPS = ["先求粉笔的总支数：36×12=432（支）。", "一共有4个年级，要平均分。", "每个年级分到432÷4=108（支）。"]


def judged(config: FilterConfig | None = None, **changes: Any) -> str | None:
    values: dict[str, Any] = {"context": CONTEXT, "steps": STEPS, "answer": "每个年级分到108支。"} | changes
    reference, closed = values.pop("reference", None), values.pop("closed", True)
    truncated = values.pop("truncated", False)
    record = make_record(values.pop("context"), values.pop("steps"), values.pop("answer"), **values)
    trace = RawTrace(record["context"], record["task"], answer=record["answer"], reference=reference, closed=closed)
    trace.truncated = truncated
    return failed_filter(trace, record, config or FilterConfig())


def test_a_good_trace_stays() -> None:
    assert judged() is None
    assert judged(reference="108") is None
    assert judged(context="", task="求每个年级分到的粉笔支数") is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("empty_context", {"context": ""}),
        ("empty_thought", {"steps": []}),
        ("truncated", {"truncated": True}),
        ("truncated", {"answer": "代码如下：\n```python\nprint(432 / 4)"}),
        ("unclosed_thought", {"closed": False}),
        ("missing_answer", {"answer": " "}),
        ("wrong_answer", {"reference": "109"}),
        ("few_steps", {"steps": STEPS[:2]}),
        ("repetition", {"steps": [*STEPS, *["等等，我再检查一遍这个结果对不对。"] * 20]}),
        ("repetition", {"steps": [*STEPS, *["再检查。"] * 12]}),
        ("repetition", {"steps": [*STEPS, "我需要再检查一遍这个结果。" * 120]}),
        ("repetition", {"answer": "\n".join(["每个年级分到108支。"] * 300)}),
        ("repetition", {"answer": "每个年级分到108支。" + "我们再检查一遍，" * 60 + "我们再"}),
        ("too_short", {"steps": ["一", "二", "三"]}),
        ("too_long", {"answer": "108支。" + "".join(f"另外{i}年级有{i * i}人。" for i in range(6_000))}),
        ("language_drift", {"steps": ["First we multiply the boxes.", "Then we divide by four.", "That gives 108."]}),
        ("control_tokens", {"answer": "108支。<|im_end|>"}),
        ("control_tokens", {"steps": [*STEPS, "<｜Assistant｜>接着说"]}),
        ("control_tokens", {"steps": [*STEPS, "所以</think>答案"]}),
        ("control_tokens", {"context": CONTEXT + "<|im_start|>"}),
    ],
)
def test_each_filter_takes_its_own(name: str, changes: dict[str, Any]) -> None:
    assert judged(**changes) == name
    # Switched off, it lets the trace through, unless another filter has its own reason.
    assert judged(FilterConfig(skip=(name,)), **changes) != name


def test_every_filter_has_a_case_and_the_order_decides() -> None:
    assert (
        *("empty_context", "empty_thought", "unclosed_thought", "truncated", "missing_answer", "wrong_answer"),
        *("few_steps", "repetition", "too_short", "too_long", "language", "language_drift", "control_tokens"),
    ) == FILTER_NAMES
    assert judged(context="", steps=[], answer="") == "empty_context"
    assert judged(steps=[], answer="") == "empty_thought"
    assert judged(steps=STEPS[:1], reference="1") == "wrong_answer"


def test_records_of_the_mode_without_thinking_are_kept_where_they_are_wanted() -> None:
    config = FilterConfig(keep_non_thinking=True)
    assert judged(config, steps=[]) is None and judged(config, steps=["", " "]) is None
    # the filters of chains hold for chains, and all others for every record
    assert judged(config, steps=STEPS[:2]) == "few_steps" and judged(config, steps=["一", "二", "三"]) == "too_short"
    assert judged(config, steps=[], answer="") == "missing_answer"
    assert judged(config, steps=[], answer="108支。<|im_end|>") == "control_tokens"
    assert judged(config, steps=[], reference="109") == "wrong_answer"
    # what begins with a pair of tags that is not known may be a thought
    assert judged(config, steps=[], answer="<plan>先乘再除。</plan>108支。") == "empty_thought"


@pytest.mark.parametrize(
    "text",
    ["写在 <think> 和 </think> 之间。", "`<answer>` 标签里写答案。", "Use the <think> tag, then </think> to end."],
)
def test_tags_that_a_text_speaks_of_are_no_leak(text: str) -> None:
    assert judged(answer=f"每个年级分到108支。{text}") is None
    assert judged(steps=[*STEPS, f"题目要求：{text}", "所以按这个格式写，每个年级分到108支。"]) is None


def test_languages_can_be_chosen() -> None:
    english = {
        "context": "Each of 36 boxes holds 12 pieces of chalk. How many pieces go to each of 4 grades?",
        "steps": ["There are 36 times 12 pieces.", "That makes 432 pieces.", "Each grade gets 108 of them."],
        "answer": "108 pieces",
    }
    assert judged(**english) is None
    assert judged(FilterConfig(languages=("zh",)), **english) == "language"
    assert judged(FilterConfig(languages=("zh",))) is None


def test_drift_is_seen_in_a_part_and_code_is_no_drift() -> None:
    chinese = "我们先算出粉笔一共有多少支，再把它们平均分给每一个年级，注意单位是支而不是盒。"
    english = "Wait, let me think about this again because the number of grades may be different here. "
    config = FilterConfig(skip=("repetition",))
    assert judged(config, steps=[chinese * 4, chinese * 3, english * 4]) == "language_drift"
    assert judged(config, steps=[chinese * 4, chinese * 3, chinese * 4]) is None
    code = "```python\n" + "total_pieces = number_of_boxes * pieces_per_box\n" * 3 + "```"
    assert judged(steps=[chinese, code, chinese]) is None
    assert judged(FilterConfig(min_cjk_ratio=0.0), steps=[english, "Yes it is.", "The total is 108."]) is None


def test_an_answer_that_cannot_be_verified_is_not_wrong() -> None:
    assert judged(reference="他们分得很公平") is None


def test_repetition_of_plain_and_looping_text() -> None:
    chars = "".join(chr(0x4E00 + (i * 7919) % 5000) for i in range(6000))
    assert repetition(chars) == 0
    assert repetition("") == repetition("一二三") == 0
    assert repetition("好" * 500) > 0.99
    # By hand: "abababababab" has 12 - 10 + 1 = 3 ten-grams, of which 2 are distinct.
    assert repetition("ab" * 6) == pytest.approx(1 / 3)
    assert repetition("a b a b a b a b a b a b") == pytest.approx(1 / 3)
    assert repetition("ababab", n=2) == pytest.approx(1 - 2 / 5)


def test_a_loop_anywhere_in_a_long_text_is_found_and_length_alone_is_not_punished() -> None:
    honest = "".join(chr(0x4E00 + (i * 7919) % 5000) for i in range(5000))
    loop = "等等，让我再想一想这个问题。" * 110
    for text in (loop + honest, honest[:2345] + loop + honest[2345:], honest + loop):
        assert repetition(text) > 0.9
    sentences = [f"第{i}天读了{i * 3}页，还剩{900 - i * 3}页没有读。" for i in range(1, 250)]
    assert repetition("".join(sentences[:40])) < 0.5
    assert repetition("".join(sentences)) < 0.5


def test_repeated_steps() -> None:
    assert repeated_steps([]) == repeated_steps(["一"]) == 0
    assert repeated_steps(["a b", "ab", "c", "d"]) == 0.25


@pytest.mark.parametrize(
    "changes",
    [
        {"max_repetition": 1.2},
        {"min_cjk_ratio": -0.1},
        {"min_steps": -1},
        {"min_chars": 10, "max_chars": 5},
        {"languages": ("fr",)},
        {"skip": ("no_such_filter",)},
    ],
)
def test_a_bad_config_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(reversed(changes))):
        replace(FilterConfig(), **changes)


def test_lists_from_yaml_become_tuples() -> None:
    assert FilterConfig(languages=["zh"], skip=["few_steps"]).skip == ("few_steps",)  # type: ignore[arg-type]
