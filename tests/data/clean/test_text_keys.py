"""Keys of texts: what is noise and what is content, in every writing."""

import pytest
from key_files import verdicts

from hf_reason.data.clean.splits import context_keys
from hf_reason.data.clean.text_keys import letters_and_digits, normalise, without_punctuation

SAME = [
    (
        "计算:(2+3)×4",
        "计算：（2＋3）＊4",
        "计算 (2+3)*4",
        "計算:(2+3)×4",
        r"计算 $(2+3)\times 4$",
        r"计算 \((2+3)\cdot 4\)",
    ),
    ("12÷3", "12/3", r"\(12 \div 3\)", "１２÷３", "12∕3"),
    ("x²+1", "x^2+1", "$x^{2}+1$", "x**2+1"),
    ("1,000元", "1000元", "１，０００元"),
    ("共72（本）。", "共72本", "共72(本)"),
    (r"\frac{1}{2}", "1/2", r"\dfrac12", "½"),
    ("比例是3:5", "比例是3∶5", "比例是 3 ： 5", "比例是3：5"),
    ("3，5", "3、5", "3 5", "3, 5"),
    ("小明说：“你好！”", "小明说你好", "小明說：「你好！」"),
    ("**题目**:求值", "题目求值", "題目 求值"),
    ("答案是_____。", "答案是"),
    ("约翰·史密斯", "约翰史密斯"),
    ("5 - 3", "5-3", "5−3", "5–3", "５－３"),
    ("a well-known story", "A well known story"),
    ("I have 5 apples. You have 3.", "i have 5 apples you have 3"),
    ("頭髮乾淨,餘下3個蘋果", "头发干净,余下3个苹果"),
]
DIFFERENT = [
    *(("(2+3)×4", "2+3×4"), ("3*5", "35"), ("x^2", "x2"), ("x²", "x2"), ("1.5", "15"), ("3-5", "3+5"), ("3,5", "35")),
    *(("3:5", "35"), ("5!+1", "5+1"), ("|x-3|=5", "x-3=5"), ("f(x)=3", "fx=3"), ("(3,4)", "(34)"), ("-3", "3")),
    *(("3<5", "3>5"), ("√2", "2"), ("10%", "10"), ("a*b", "ab"), ("x-y", "xy"), ("3/4", "34"), ("3 5", "35")),
    *(("[2+3]*4", "2+3*4"), ("[1,5]", "(1,5)"), ("{1,2}", "1,2")),
]


@pytest.mark.parametrize("texts", SAME, ids=lambda texts: texts[0])
def test_writings_of_the_same_text(texts: tuple[str, ...]) -> None:
    assert len({normalise(text) for text in texts}) == 1


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_signs_and_digits_are_content(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)
    assert normalise(f"求{one}") != normalise(f"求{other}")


def test_the_other_keys_fold_traditional_characters() -> None:
    assert without_punctuation("先求總數（３箱），得 3×36=108。") == without_punctuation("先求总数(3箱),得3×36=108")
    assert letters_and_digits("圖書館借出3本") == letters_and_digits("图书馆借出3本")


TRADITIONAL = "學校圖書館上午借出故事書36本,下午借出的本數比上午的2倍少12本,這一天一共借出故事書多少本?"
SIMPLIFIED = "学校图书馆上午借出故事书36本，下午借出的本数比上午的2倍少12本，这一天一共借出故事书多少本？"


def test_a_traditional_duplicate_is_found_and_in_the_same_family() -> None:
    texts = [
        (SIMPLIFIED, "下午36×2-12=60本，一共96本。"),
        (TRADITIONAL, "下午36×2-12=60本,一共96本。"),
        (TRADITIONAL, "下午36×2-12=60本,一共是96本。"),
        (TRADITIONAL.replace("36", "37"), "下午36×2-12=60本,一共96本。"),
    ]
    assert verdicts(texts) == [None, "exact", "near", None]
    one, other = context_keys([SIMPLIFIED, TRADITIONAL])
    assert one == other
