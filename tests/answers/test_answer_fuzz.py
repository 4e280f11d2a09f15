"""Whatever a model writes: no function of the answers raises, and long texts cost linear time."""

import random
import time
from collections.abc import Callable

import pytest

from hf_reason.answers.equations import find_equations
from hf_reason.answers.final import final_part
from hf_reason.answers.forms import final_number, numbers_in, pure_number
from hf_reason.answers.verify import answers_match
from hf_reason.evaluation.scoring import answer_correct

FRAGMENTS = (
    r"3 12 1,200 0.5 -7 三万五 一亿二千万 百分之十五 三分之二 壹佰贰拾叁 半 % ‰ 万 亿 元 角 米 平方米 小时 "
    r"30分 km/h kg ℃ ° \frac{1}{2} \frac{ \sqrt{ \boxed{ } { ( ) [ ] \left( \right) \begin{cases} \end{cases} \\ & $ $$ \( \) "
    "= ≈ + - × ÷ * / ^ _ ² ³ √ π ± ≤ < > ∞ ∪ ∈ | ! : ： , ， 、 ; ； 。 . ? … …… ~ ① ② A B C D x y x= y= x_1= "
    "答案是 答： 故选 选 不是 而是 等等，不对 应该是 所以 因此 或 和 且 对 错 无解 <answer> </answer> #### ** "
    "的平方 次方 根号 又 分之 余 The answer is wait, no not or and therefore twenty five million March "
    "2024年3月5日 下午3点半 15:30 個 點 雞 é 😀"
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
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        start = time.process_time()
        judge(text)
        return time.process_time() - start

    judge("1")
    # Quadratic time would be a second or more here. A second try: the first may have loaded something.
    assert seconds(20_000) < 0.5 or seconds(20_000) < 0.5
