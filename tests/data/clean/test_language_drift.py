"""Language drift of chains and answers, and the filter by language."""

import pytest

from hf_reason.data.clean.filters import FilterConfig, failed_filter
from hf_reason.data.clean.language_drift import drifts
from hf_reason.data.record import RawTrace, Record, make_record

PROBLEM = "一箱铅笔有36支,三箱平均分给四个班,每班多少支?"
CHAIN = ["先求总数,三箱一共36×3=108支。", "再平均分给四个班,108÷4=27支。", "所以每班得到27支铅笔。"]
RUSSIAN = "Итак, всего у нас сто восемь карандашей, и каждый из четырёх классов получает двадцать семь карандашей."
JAPANESE = "したがって、四つのクラスにはそれぞれ二十七本の鉛筆が配られることになります。これで計算は終わりです。"
KOREAN = "따라서 네 반은 각각 스물일곱 자루의 연필을 받게 됩니다. 이것으로 계산이 끝났습니다."
ENGLISH = "So we have 108 pencils in all, and each of the four classes gets 27 of them, which is the answer."
FRENCH = "Nous avons donc cent huit crayons et chacune des quatre classes en reçoit vingt-sept, voilà la réponse."


def record(steps: list[str] = CHAIN, answer: str = "每班27支。", problem: str = PROBLEM) -> Record:
    return make_record(problem, steps, answer)


@pytest.mark.parametrize("foreign", [RUSSIAN, JAPANESE, KOREAN, ENGLISH, FRENCH])
def test_drift_in_chains_and_answers(foreign: str) -> None:
    assert not drifts(record(), 0.4)
    assert drifts(record([foreign] * 3), 0.4)
    assert drifts(record([*CHAIN, *CHAIN, foreign, foreign]), 0.4)
    assert drifts(record(answer=foreign), 0.4)
    assert drifts(record(answer=foreign, problem="一箱鉛筆有36支,三箱平均分給四個班,每班多少支?"), 0.4)


@pytest.mark.parametrize(
    "answer",
    [
        "Fyodor Dostoevsky",
        r"$\frac{\text{total}}{\text{classes}} = 27$",
        "```python\nfor box in boxes:\n    print(box.pencils, box.classes, box.total, box.answer, box.name)\n```",
        "答案是 27,即 twenty-seven。",
    ],
)
def test_names_formulas_and_code_are_no_drift(answer: str) -> None:
    assert not drifts(record(answer=answer), 0.4)


@pytest.mark.parametrize(
    "problem",
    [
        "把下面的话翻译成俄语:四个班各得27支铅笔。",
        "請用英文寫出解答。",
        "Translate 成法文:每班27支。",
        "请用法语回答:每班几支?",
        "这段日文说的是什么?",
    ],
)
def test_an_answer_in_the_language_that_was_asked_for_is_no_drift(problem: str) -> None:
    for answer in (RUSSIAN, ENGLISH, FRENCH):
        assert not drifts(record(answer=answer, problem=problem), 0.4)


@pytest.mark.parametrize(
    "problem",
    [
        "这个算法文献里一共有几支铅笔?",
        "今日文章共几篇?",
        "依宪法文本,共几条?",
        "美德文章共几篇?",
        "用阿拉伯数字写出总数。",
        "希腊字母α表示几?",
    ],
)
def test_the_name_of_a_language_inside_of_other_words_asks_for_none(problem: str) -> None:
    assert drifts(record(answer=ENGLISH, problem=problem), 0.4)


def test_other_problems_do_not_drift() -> None:
    assert not drifts(record([RUSSIAN] * 3, problem="How many pencils does each class get?"), 0.4)
    assert not drifts(record([RUSSIAN] * 3, problem="36*3/4=?"), 0.4)


@pytest.mark.parametrize("foreign", [RUSSIAN, JAPANESE, KOREAN, FRENCH])
def test_another_language_is_dropped_by_the_languages(foreign: str) -> None:
    other = record([foreign] * 3, foreign, "36*3/4=?")
    trace = RawTrace("", thought="")
    assert other["language"] == "other"
    assert failed_filter(trace, other, FilterConfig(languages=("zh",), max_repetition=1.0)) == "language"
    assert failed_filter(trace, other, FilterConfig(languages=("zh", "en"), max_repetition=1.0)) == "language"
    assert failed_filter(trace, other, FilterConfig(max_repetition=1.0)) is None


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_record_without_words_is_in_every_language(language: str) -> None:
    formulas = make_record("36×3÷4=?", ["36×3=108", "108÷4=27", "36×3÷4=27"], "27")
    assert failed_filter(RawTrace("", thought=""), formulas, FilterConfig(languages=(language,))) is None
