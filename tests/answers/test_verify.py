"""Answers against references: equal forms match, wrong ones are refused, and the unclear is left open."""

import signal
import threading
from fractions import Fraction

import math_verify
import pytest
from cpu_time import ends_within

from hf_reason.answers.numerals import chinese_number
from hf_reason.answers.verify import answers_match, final_number


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("45", "45"),
        ("答案是45本。", "45"),
        ("所以一共需要花 36 元。", "36"),
        ("12×3=36（元）\n答：一共需要36元。", "36"),
        (r"\boxed{\frac{11}{20}}", "(11/20)"),
        ("The final answer is: $\\boxed{72}$.", "72"),
        ("<answer>72</answer>", "72"),
        ("#### 72", "72"),
        ("Natalia sold 72 clips altogether.", "72"),
        ("二分之一", "1/2"),
        ("一又二分之一", "1.5"),
        ("百分之十五", "15%"),
        ("50%", "1/2"),
        ("30%", "30"),
        ("31(1/9)", "280/9"),
        ("31又1/9", "280/9"),
        ("((8)/(5))", "1.6"),
        ("(3/10)/(14/15)", "9/28"),
        ("1,200元", "1200"),
        ("１２００", "1200"),
        ("3万", "30000"),
        ("3.5亿元", "350000000"),
        ("325 000 cars each.", "325000"),
        ("三百二十一", "321"),
        ("一共需要十二个", "12"),
        ("0.33", "1/3"),
        ("温度是-3度", "-3"),
        ("x = 5", "5"),
        ("3米", "300厘米"),
        ("3小时", "180分钟"),
        ("3", "3厘米"),
        ("45本", "45页"),
        ("60km/h", "60"),
        ("$5$;$10$", "10;5"),
        ("x=5或x=10", "$5$;$10$"),
        ("5和10", "$5$;$10$"),
        ("选B", "B"),
        ("答案：(C)", "C"),
        ("A. 苹果", "A"),
        ("ABD", "BDA"),
        (r"\boxed{\text{B}}", "B"),
        ("是的", "正确"),
        ("yes", "是"),
        ("春天 来了。", "春天来了"),
        (r"$\sqrt{12}$", r"2\sqrt{3}"),
        (r"The answer is $2\sqrt{3}$.", r"\sqrt{12}"),
        (r"\boxed{x^2+2x+1}", "(x+1)^2"),
        ("(1,2)", "(1, 2)"),
        (r"\boxed{10\text{ dollars}}", "10"),
    ],
)
def test_equal_answers_match(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is True


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("46", "45"),
        ("答案是46本。", "45"),
        ("35", "3.5"),
        ("0.34", "1/3"),
        ("0.3", "1/3"),
        ("3.34", "3.33"),
        ("-3", "3"),
        ("3米", "3厘米"),
        ("3%", "0.3"),
        ("0.3%", "0.3"),
        ("A", "B"),
        ("AB", "ABD"),
        ("不是", "是"),
        ("True", "False"),
        ("5;11", "5;10"),
        ("5", "5;10"),
        (r"\boxed{5, 10}", "5"),
        (r"\boxed{x^2+2x}", "(x+1)^2"),
        (r"\boxed{(2,1)}", "(1,2)"),
        (r"\boxed{(1,3)}", "3"),
        (r"\boxed{-2+3i}", "1"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{20}"),
    ],
)
def test_wrong_answers_are_refused(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is False


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("", "3"),
        ("3", ""),
        ("他很高兴", "春天来了"),
        ("需要36元，买12本", "36"),
        ("也许吧", "是"),
        ("我不知道", "B"),
        ("没有数字", "5"),
        ("The theme is loneliness.", "It is about a man who lives alone."),
    ],
)
def test_what_cannot_be_told_is_left_open(answer: str, reference: str) -> None:
    assert answers_match(answer, reference) is None


def test_the_answer_comes_first_and_the_reference_second(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the answer's side is searched for its result.
    assert answers_match("小明买了3本书，一共花了36元。", "36") is True
    assert answers_match("36", "小明买了3本书，一共花了36元。") is None
    # math-verify wants it the other way round.
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(math_verify, "verify", lambda gold, target, **_: calls.append((str(gold), str(target))))
    answers_match(r"\boxed{x+\sqrt{5}}", r"x+\sqrt{7}")
    assert [("7" in gold, "5" in target) for gold, target in calls] == [(True, True)]


def test_an_interval_may_be_written_as_an_inequality() -> None:
    assert answers_match(r"\boxed{1 < x < 2}", r"(1,2)") is True
    assert answers_match(r"\boxed{(1,2)}", r"1 < x < 2") is True
    assert answers_match(r"\boxed{1 < x < 3}", r"(1,2)") is False


def test_works_in_a_thread_and_keeps_a_running_alarm() -> None:
    seen: list[bool | None] = []
    thread = threading.Thread(target=lambda: seen.append(answers_match(r"$\sqrt{12}$", r"2\sqrt{3}")))
    thread.start()
    thread.join()
    assert seen == [True]

    fired: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: fired.append(1))
    outer = signal.getitimer(signal.ITIMER_REAL)
    try:
        signal.setitimer(signal.ITIMER_REAL, 30)
        assert answers_match(r"$\sqrt{18}$", r"3\sqrt{2}") is True
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("hostile", ["9^9^9^9^9", r"$9^{9^{9^{9}}}$", "99999999!", "(" * 5000, r"\frac{" * 2000])
def test_hostile_answers_cost_no_time(hostile: str) -> None:
    pairs = [(hostile, r"x^{2}+1"), (hostile, "5"), ("x^2", hostile)]
    assert not any(answers_match(*pair) for pair in pairs)
    assert ends_within(3, lambda: [answers_match(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("答：一共需要36元。", 36),
        ("所以，12×3=36（元）。", 36),
        ("总共是 1,234.5 米", Fraction(2469, 2)),
        ("还剩下这批帐篷的二分之一", Fraction(1, 2)),
        ("合格率是百分之九十八点五。", Fraction(197, 200)),
        (r"\boxed{31\frac{1}{9}}", Fraction(280, 9)),
        ("They need 5 more than 3, so the answer is 8.", 8),
        ("一共有十二个", 12),
        ("没有答案", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: Fraction | int | None) -> None:
    assert final_number(text) == number


def test_made_up_answers_agree_with_their_values_and_not_with_others() -> None:
    forms = {
        Fraction(9, 4): ["9/4", "(9/4)", "((9)/(4))", "2(1/4)", "2.25", "225%", r"\frac{9}{4}", "四分之九", "2又1/4"],
        Fraction(45): ["45", "45本", "45（本）", "４５", "$45", "45.0", "四十五", "90/2", r"\boxed{45}", "x=45"],
    }
    for value, writings in forms.items():
        for writing in writings:
            for sentence in (writing, f"答案是{writing}。"):
                assert answers_match(sentence, str(value)) is True, sentence
                assert answers_match(sentence, str(value + 1)) is False, sentence


@pytest.mark.parametrize("text", ["万" * 16_000, "亿" * 16_000, "三万" * 8_000])
def test_a_row_of_numerals_without_end_is_no_error(text):
    assert answers_match(text, "5") is not True
    with pytest.raises(ValueError):
        chinese_number(text)
