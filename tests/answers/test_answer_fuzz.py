"""Whatever a model writes: no function of the answers raises, and long texts cost linear time."""

import random
from collections.abc import Callable

import pytest
from cpu_time import ends_within

from hf_reason.answers.equations import find_equations
from hf_reason.answers.final import final_part
from hf_reason.answers.forms import final_number, numbers_in, pure_number
from hf_reason.answers.verify import answers_match
from hf_reason.evaluation.scoring import answer_correct

FRAGMENTS = (
    r"3 12 1,200 0.5 -7 三万五 一亿二千万 百分之十五 三分之二 壹佰贰拾叁 半 % ‰ 万 亿 元 角 米 平方米 小时 "
    r"30分 km/h kg ℃ ° \frac{1}{2} \frac{ \sqrt{ \boxed{ } { ( ) [ ] \left( \right) \begin{cases} \end{cases} "
    r"\\ & $ $$ \( \) = ≈ + - × ÷ * / ^ _ ² ³ √ π ± ≤ < > ∞ ∪ ∈ | ! : ： , ， 、 ; ； 。 . ? … …… ~ ① ② A B "
    "C D x y x= y= x_1= 答案是 答： 故选 选 不是 而是 等等，不对 应该是 所以 因此 或 和 且 对 错 无解 "
    "<answer> </answer> #### ** 的平方 次方 根号 又 分之 余 The answer is wait, no not or and therefore twenty five "
    "million March 2024年3月5日 下午3点半 15:30 個 點 雞 é 😀"
)
PIECES = [*FRAGMENTS.split(" "), " ", "\n", "\u3000", "\u200b", "\ud800", "\x00"]
LONG = {
    "blank lines": "\n",
    "spaces": " ",
    "digits": "9",
    "commas": "1,",
    "grouped digits": "1,000,",
    "numerals": "九",
    "open brackets": "(",
    "open boxes": "\\boxed{",
    "fractions": "\\frac{",
    "dollars": "$",
    "prices": "$5 ",
    "denials": "不是3，",
    "revisions": "等等，不对。",
    "statements": "答案是",
    "tags": "<answer>",
    "equations": "1+1=",
    "words": "three plus ",
    "spoken": "三加",
    "units": "3米",
    "systems": "\\begin{cases}x=1",
    "dates": "2024年",
    "remainders": "3余",
    "stars": "**",
    "separators": "；",
    "parts": "(1)",
    "negations": "not ",
    "powers": "2的",
    "roots": "√",
    "ratios": "1:",
    "traditional": "個",
}


def made_up(count: int) -> list[str]:
    chooser = random.Random(16)
    return ["".join(chooser.choices(PIECES, k=chooser.randint(1, 12))) for _ in range(count)]


@pytest.fixture(autouse=True)
def no_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    """math-verify is tested elsewhere, and is slow."""
    for module in ("compare", "verify"):
        monkeypatch.setattr(f"hf_reason.answers.{module}.verify_symbolic", lambda *_: None)


def test_nothing_raises() -> None:
    texts = made_up(2000)
    for at, (text, other) in enumerate(zip(texts, reversed(texts), strict=True)):
        judge = answers_match if at % 4 else answer_correct
        assert judge(text, other) in (True, False, None)
        find_equations(text)
        final_number(text)
        pure_number(text)


def test_a_text_matches_itself() -> None:
    for text in made_up(500):
        if text.strip():
            assert answers_match(text, text) is not False


ZH = "首先，小明每天读20页书，5天一共读了20×5=100页。然后我们检查一下单位是否一致，发现没有问题。"
EN = "First, Tom reads 20 pages a day, so in 5 days he reads 20*5=100 pages. Let me check the units again. "


@pytest.mark.parametrize(
    ("completion", "right", "wrong"),
    [
        (ZH * 400 + "所以一共是36页。", "36", "100"),
        ("答案是5。" + ZH * 300 + "等等，不对，应该是6。", "6", "5"),
        ("答案是5。等等，不对。" + ZH * 300 + "所以答案是6。", "6", "5"),
        (r"\boxed{5}" + ZH * 300 + r"我发现上面算错了，重新计算得\boxed{6}。", "6", "5"),
        (r"\boxed{5}" + "\n等等，我算错了，应该是6。", "6", "5"),
        (EN * 200 + "Therefore, Tom reads 36 pages.", "36", "100"),
        ("The answer is 5. Wait, no. " + EN * 200 + "So the answer is 6.", "6", "5"),
        ("The answer is 5. Wait, no, it should be 6.", "6", "5"),
        (r"$10,200 + \boxed{255} = $10,455. Final Answer: The final answer is $10,455$.", "10455", "255"),
        (EN * 200 + "So she has twenty-five apples left.", "25", "100"),
        (ZH * 300 + "\n\n答：鸡有18只，兔有12只。", "鸡18只，兔12只", "鸡12只，兔18只"),
        (ZH * 300 + "\n\n综上所述，选C。", "C", "B"),
        (ZH * 300 + "\n\n因此x的取值范围是x≥3。", "x≥3", "x>3"),
        (ZH * 300 + "\n\n因此方程无解。", "无解", "3"),
        ("答案是8吗？代入检验：2×8=16≠18，不对。那么答案是9吗？2×9=18，对。所以x=9。", "9", "8"),
        ("Initially I got 12, but the correct value is 15.", "15", "12"),
    ],
)
def test_long_completions_and_revisions(completion: str, right: str, wrong: str) -> None:
    assert answer_correct(completion, right) is True
    assert ends_within(2, lambda: answer_correct(completion, wrong))
    assert answer_correct(completion, wrong) is not True


@pytest.mark.parametrize("unit", LONG.values(), ids=list(LONG))
@pytest.mark.parametrize(
    "judge",
    [
        lambda text: answers_match(text, "5"),
        lambda text: answers_match(text, "x=1,y=2"),
        lambda text: answers_match("5", text),
        find_equations,
        final_part,
        numbers_in,
    ],
    ids=["number", "unknowns", "reference", "equations", "part", "numbers"],
)
def test_time_is_linear(judge: Callable[[str], object], unit: str) -> None:
    text = (unit * 20_000)[:20_000]
    judge("1")
    assert ends_within(0.5, lambda: judge(text)), "quadratic time would be a second or more here"
