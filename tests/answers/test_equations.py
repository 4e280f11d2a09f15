"""Equations in prose, the exact evaluator behind them, and the steps made from a formula."""

from fractions import Fraction

import pytest
from cpu_time import ends_within

from hf_reason.answers.equations import (
    evaluate_expression,
    find_equations,
    format_number,
    steps_from_equation,
    write_like,
)


def verdicts(text: str) -> list[tuple[str, str, bool]]:
    return [(found.expression, found.result, found.holds) for found in find_equations(text)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", 7),
        ("(1+2)×3", 9),
        ("7÷2", Fraction(7, 2)),
        ("2^10", 1024),
        ("2**3**2", 512),
        ("-3^2", -9),
        ("2^-1", Fraction(1, 2)),
        ("15%", Fraction(3, 20)),
        ("(1-20%)×50", 40),
        ("1,234.5+0.5", 1235),
        ("31(1/9)", Fraction(280, 9)),
        ("2(3+4)", 14),
        ("3(4/2)", 6),
        ("280÷1/4", 1120),
        ("280/1/4", 70),
        ("３６×（１２－２）", 360),
        ("120/[(1-6%)-(1-30%)]", 500),
        ("6：3", 2),
        ("3万+5", 30005),
        (".5*4", 2),
        ("5²+2³", 33),
        ("0.1+0.2", Fraction(3, 10)),
    ],
)
def test_evaluates_exactly(text: str, value: Fraction | int) -> None:
    assert evaluate_expression(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "(" * 10000 + ")" * 10000,
        "(" * 900 + "1" + ")" * 900,
        "-" * 1500 + "1",
        "1+" * 5000 + "1",
        "9" * 1000 + "^64",
        "*".join(["9" * 60] * 30),
        "1/0",
        "0^-1",
        "2^0.5",
        "",
        "()",
        "(1/2",
        "1/2)",
        "1 2",
        "3+",
        "x+1",
        "__import__('os')",
    ],
)
def test_hostile_or_broken_text_is_refused_at_once(text: str) -> None:
    def refused() -> None:
        with pytest.raises(ValueError):
            evaluate_expression(text)

    assert ends_within(0.5, refused)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("总价是36×12=432（元）。", [("36×12", "432", True)]),
        ("小明有3+5=8个苹果", [("3+5", "8", True)]),
        ("12/60 = $0.2 per minute", [("12/60", "0.2", True)]),
        ("1/2×4=2", [("1/2×4", "2", True)]),
        ("45×2+10=100", [("45×2+10", "100", True)]),
        ("84÷7=12本", [("84÷7", "12", True)]),
        ("x=3+4=7", [("3+4", "7", True)]),
        ("200×15%=30", [("200×15%", "30", True)]),
        ("3米×4=12平方米", [("3×4", "12", True)]),
        ("３６×１２＝４３３", [("36×12", "433", False)]),
        ("12元/千克×3千克=36元", [("12×3", "36", True)]),
        ("She earns $10/day * 26 days = $260.", [("10*26", "260", True)]),
        ("So 5 * $720 = $3,600.", [("5*720", "3,600", True)]),
        ("12x52=624", [("12×52", "624", True)]),
        ("3 apples + 5 apples = 8 apples", [("3+5", "8", True)]),
        ("a total of 11 * 4 = 44 carrots", [("11*4", "44", True)]),
        ("2(4/5)+1=3.8", [("2(4/5)+1", "3.8", True)]),
        ("200(4/5)=160", [("200(4/5)", "160", True)]),
        ("2 - 1/2 = 1 1/2 cups", [("2-1/2", "1(1/2)", True)]),
        ("3万+2万=5万元", [("3万+2万", "5万", True)]),
        ("7=3+4", [("3+4", "7", True)]),
        ("-3+5=2", [("-3+5", "2", True)]),
        ("90÷300×100=30%", [("90÷300×100", "30%", True)]),
    ],
)
def test_finds_equations_in_prose(text: str, expected: list[tuple[str, str, bool]]) -> None:
    assert verdicts(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("先算360÷3=120,120+30=150", [("360÷3", "120", True), ("120+30", "150", True)]),
        ("360÷3=130,120+30=150", [("360÷3", "130", False), ("120+30", "150", True)]),
        ("10+20=30,100+30=130,200+5=205", [("10+20", "30", True), ("100+30", "130", True), ("200+5", "205", True)]),
        ("5,000=1,000+4,000", [("1,000+4,000", "5,000", True)]),
        ("600*2=1,200", [("600*2", "1,200", True)]),
        ("3×40=120,共120个", [("3×40", "120", True)]),
        ("1亿2000万+3000万=1亿5000万", [("120000000+3000万", "150000000", True)]),
    ],
)
def test_a_comma_between_equations_is_no_part_of_a_number(text: str, expected: list[tuple[str, str, bool]]) -> None:
    assert verdicts(text) == expected


@pytest.mark.parametrize(
    "text", ["\n" * 32000, "**" + "\n" * 32000 + "=", "3+4=7" + " " * 32000, "\\\\" + "\n" * 32000]
)
def test_blank_lines_cost_linear_time(text: str) -> None:
    assert ends_within(1, lambda: find_equations(text))


def test_chains_give_one_equation_a_sign() -> None:
    assert verdicts("原式=3×4+5\n=12+5\n=18") == [("3×4+5", "12+5", True), ("12+5", "18", False)]


def test_latex_and_bold() -> None:
    assert verdicts(r"\( \frac{1}{2} \times 4 = 2 \)，$5\times6=30$") == [("(1/2)×4", "2", True), ("5×6", "30", True)]
    assert verdicts("所以 **5+6** = **11**") == [("5+6", "11", True)]
    assert verdicts("5**2=25") == [("5**2", "25", True)]


@pytest.mark.parametrize("mark", ["- ", "1. ", "(1) ", "（1）", "① ", "步骤1: ", "步骤1:", "第2步：", "Step 2. "])
def test_list_marks_are_no_part_of_an_equation(mark: str) -> None:
    assert verdicts(mark + "3+5=8") == [("3+5", "8", True)]


@pytest.mark.parametrize(
    "text",
    [
        "2x+3=7",
        "x²-4=0",
        "f(3)=9",
        "cos(60)=1/2",
        "15-x=9",
        "n-2=5",
        "1米=100厘米",
        "3小时20分=200分",
        "100×8折=80",
        "总数-3=5",
        "5>=3+2",
        "3m+5=11",
        "Remaining 10 000 = 5 + 5",
        "没有等式 3+4 的句子",
    ],
)
def test_what_arithmetic_cannot_judge_is_skipped(text: str) -> None:
    assert verdicts(text) == []


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("12×100=1,200,1,200+5=1,205", [True, True]),
        ("5×200=1,000,1,000×2=2,000,2,000-500=1,500", [True, True, True]),
        ("12×100=1,200,300+5=305", [True, True]),
        ("360÷3=120,120+30=151", [True, False]),
        ("先算360÷3=120,120+30=150", [True, True]),
        ("2×2,550=5,100", [True]),
        ("3米×4米=12平方米", [True]),
        ("3米×4米=13平方米", [False]),
        ("5元+3角=5.3元", [True]),
        ("5元+3角=5.4元", [False]),
        ("5元+3角=8元", [False]),
        ("1元-3角=7角", [True]),
        ("2小时+30分=2.5小时", [True]),
        ("2小时30分+45分=3小时15分", [True]),
        ("2小时30分+45分=3小时25分", [False]),
        ("3米20厘米+80厘米=4米", [True]),
        ("200克+1千克=1.2千克", [True]),
        ("60km/h × 1.5h = 90km", [True]),
        ("1.5小时×60千米/时=90千米", [True]),
        ("1亿2000万+3000万=1亿5000万", [True]),
        ("1亿2000万+3000万=1亿6000万", [False]),
        ("25%×80=20", [True]),
        ("1/2+1/3=5/6", [True]),
        ("1/2+1/3=2/5", [False]),
        ("½+¼=¾", [True]),
        ("2^10=1024", [True]),
        ("2的3次方=8", [True]),
        ("5的平方+3=28", [True]),
        ("√16=4", [True]),
        ("√16=5", [False]),
        (r"\sqrt{16}+1=5", [True]),
        ("100÷7≈14.29", [True]),
        ("100÷7≈14.39", [False]),
        ("17÷5=3……2", [True]),
        ("17÷5=3……3", [False]),
        ("2+3=5=10÷2", [True, True]),
        ("3×4=12≠13", [True]),
        ("3+5>7", []),
        ("三加五等于八", [True]),
        ("三加五等于九", [False]),
        ("二十减八得十二,三乘以四等于十二", [True, True]),
        ("十二个减八个等于五个", [False]),
        ("三百六十÷三=一百二十", [True]),
        ("三分之二×9=6", [True]),
        ("10除以3约等于3.33", [True]),
        ("3 times 5 is 16", [False]),
        ("12 divided by 4 equals 3", [True]),
        ("99 + 58 + 81 是一个很大的数", []),
        ("180°-90°-30°=60°", [True]),
        ("180°-90°-30°=50°", [False]),
    ],
)
def test_equations_in_words_and_units(text: str, holds: list[bool]) -> None:
    assert [found.holds for found in find_equations(text)] == holds


def test_unit_conversion_does_not_hide_the_equation_beside_it() -> None:
    assert verdicts("0.5千克=0.5×1000=500克") == [("0.5×1000", "500", True)]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("10÷3=3.33", True),
        ("10÷3=3.3", True),
        ("10÷3=3.34", False),
        ("10÷3=3", False),
        ("1.11×3=3.3", False),
        ("10÷3≈3", True),
        ("10÷3≈3.4", False),
        ("200+98≈300", True),
        ("200+98≈301", False),
        ("1÷3=33.3%", True),
        ("2÷3=66.6...%", True),
        ("17÷5=3……2", True),
        ("17÷5=3（组）……2（个）", True),
        ("17÷5=3余2", True),
        ("17÷5=3...2", True),
        ("17÷5=3……1", False),
        ("17÷5=2……7", False),
    ],
)
def test_rounding_and_remainders(text: str, holds: bool) -> None:
    assert [found.holds for found in find_equations(text)] == [holds]


def test_long_and_hostile_prose_stays_fast() -> None:
    texts = ["(" * 20000 + "=1", "1+" * 20000 + "1=3", "9**9**9=1, " * 500, "\\frac{" * 5000 + "=" + "}" * 5000]
    assert ends_within(3, lambda: [find_equations(text) for text in texts])


@pytest.mark.parametrize(
    ("equation", "steps", "value"),
    [
        ("x=280/(1/4)*(3/4)", ["280÷(1/4)=1120", "1120×3/4=840"], 840),
        ("x=(2/5)/(2-1)*(5-1)", ["2-1=1", "2/5÷1=2/5", "5-1=4", "2/5×4=8/5"], Fraction(8, 5)),
        ("x=1-(1/5)-(1/4)", ["1-1/5=4/5", "4/5-1/4=11/20"], Fraction(11, 20)),
        ("x=3.14*(20/2)**2*40", ["20÷2=10", "10×10=100", "3.14×100=314", "314×40=12560"], 12560),
        ("x=(20/(20+5))*100%", ["20+5=25", "20÷25=0.8", "0.8×100%=80%"], Fraction(4, 5)),
        ("x=5-8+10*(2-6)", ["5-8=-3", "2-6=-4", "10×(-4)=-40", "-3+(-40)=-43"], -43),
        ("1/3+1=x", ["1÷3=1/3", "1/3+1=4/3"], Fraction(4, 3)),
        ("x=3/(1-(5/8))", ["1-5/8=3/8", "3÷(3/8)=8"], 8),
        ("x=(1/5)*2.5*(8/5)", ["1/5×2.5=0.5", "0.5×8/5=0.8"], Fraction(4, 5)),
        ("x=10/3*0.75", ["10÷3=10/3", "10/3×0.75=2.5"], Fraction(5, 2)),
        ("x=(3/4)-2*(7/8)", ["2×7/8=7/4", "3/4-7/4=-1"], -1),
        ("x=2*((1/4)-(3/4))", ["1/4-3/4=-1/2", "2×(-1/2)=-1"], -1),
        ("x=45", [], 45),
    ],
)
def test_steps_follow_the_order_of_a_person(equation: str, steps: list[str], value: Fraction | int) -> None:
    assert steps_from_equation(equation) == (steps, value)


@pytest.mark.parametrize(
    ("equation", "answer", "steps"),
    [
        ("x=3.14*(8/5)*735", "3692.64", ["3.14×8/5=5.024", "5.024×735=3692.64"]),
        ("x=(1/5)*7/2", "0.7", ["1/5×7=1.4", "1.4÷2=0.7"]),
        ("x=(1/5)*7/2", "(7/10)", ["1/5×7=7/5", "7/5÷2=7/10"]),
        ("x=1/4+2", "2(1/4)", ["1÷4=1/4", "1/4+2=2(1/4)"]),
        ("x=15/(15+1)", "93.75%", ["15+1=16", "15÷16=93.75%"]),
        ("x=3/20", "15%", ["3÷20=15%"]),
        ("x=10/4", "5", ["10÷4=2.5"]),
        ("x=10/3", "3.33", ["10÷3=10/3"]),
    ],
)
def test_results_are_written_as_the_answer_is(equation: str, answer: str, steps: list[str]) -> None:
    assert steps_from_equation(equation, answer=answer)[0] == steps
    assert [found.holds for step in steps for found in find_equations(step)] == [True] * len(steps)


@pytest.mark.parametrize(
    ("value", "source", "text"),
    [
        (Fraction(11, 20), "(11/20)", "11/20"),
        (Fraction(8, 5), "((8)/(5))", "8/5"),
        (Fraction(3, 20), "15%", "15%"),
        (Fraction(280, 9), "31((1)/(9))", "31(1/9)"),
        (Fraction(7, 2), "3.5千克", "3.5"),
        (Fraction(1200), "1,200元", "1200"),
        (Fraction(-5), "-5", "-5"),
        (Fraction(7, 2), "3.6", None),
        (Fraction(12), "3*4", None),
        (Fraction(5), "$5$;$10$", None),
        (Fraction(5), "", None),
    ],
)
def test_a_value_is_written_as_the_source_does(value: Fraction, source: str, text: str | None) -> None:
    assert write_like(value, source) == text


def test_the_unit_stands_after_the_last_result() -> None:
    assert steps_from_equation("x=3*4+1", unit="元")[0] == ["3×4=12", "12+1=13（元）"]


def test_every_step_holds_and_leads_to_the_value() -> None:
    for equation in ("x=(1/3)*(3/7)^2-2.5/(4-1)", "x=1*(1-10%)*(1-20%)/0.3", "x=-(2-7)*31(1/9)", "x=((1/2)^3)^2/(-4)"):
        steps, value = steps_from_equation(equation)
        found = [find_equations(step) for step in steps]
        assert all(len(each) == 1 and each[0].holds for each in found), steps
        assert found[-1][0].value == value == evaluate_expression(equation[2:])


@pytest.mark.parametrize("equation", ["x=1/0", "3+4=2+5", "x=y+1", "x=3=3", ""])
def test_a_formula_that_cannot_be_worked_out_is_refused(equation: str) -> None:
    with pytest.raises(ValueError):
        steps_from_equation(equation)


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (Fraction(840), "decimal", "840"),
        (Fraction(5, 2), "decimal", "2.5"),
        (Fraction(-1, 8), "decimal", "-0.125"),
        (Fraction(1, 10**6), "decimal", "0.000001"),
        (Fraction(1, 10**7), "decimal", "1/10000000"),
        (Fraction(2, 3), "decimal", "2/3"),
        (Fraction(11, 20), "fraction", "11/20"),
        (Fraction(4), "fraction", "4"),
        (Fraction(3, 20), "percent", "15%"),
        (Fraction(1, 3), "percent", "1/3"),
    ],
)
def test_numbers_are_written_without_losing_a_digit(value: Fraction, style: str, text: str) -> None:
    assert format_number(value, style) == text
    assert evaluate_expression(text) == value


@pytest.mark.parametrize(
    ("text", "holding"),
    [
        ("3亿5千万+5千万=4亿", [True]),
        ("3千5百万+5百万=4千万", [True]),
        ("3亿5千万+5千万=5亿", [False]),
        ("5‰×2000=10", [True]),
        ("a=120,120+30=150", [True]),
        ("a=120,120+30=120,150", [True]),
        ("先算360÷3=120,120+30=151", [True, False]),
    ],
)
def test_scales_rates_and_commas(text: str, holding: list[bool]) -> None:
    assert [equation.holds for equation in find_equations(text)] == holding
