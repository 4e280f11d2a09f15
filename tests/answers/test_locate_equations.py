"""Equations are found where they stand, and what is marked is what was judged."""

import pytest
from cpu_time import ends_within
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.answers.equations import find_equations
from hf_reason.answers.locate import locate_equations


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("增加后:12+25=37个", ["12+25=37"]),
        ("先算360÷3=120,120+30=150", ["360÷3=120", "120+30=150"]),
        ("3×12=35支，再 35+1=36。", ["3×12=35", "35+1=36"]),
        ("(2+3)×4=20=4×5", ["(2+3)×4=20", "=4×5"]),
        ("和是 1/2+1/3=5/6 米", ["1/2+1/3=5/6"]),
        ("17÷5=3……2", ["17÷5=3……2"]),
        ("三加五等于八", ["三加五等于八"]),
        (r"$\frac{1}{2}+\frac{1}{4}=\frac{3}{4}$", [r"\frac{1}{2}+\frac{1}{4}=\frac{3}{4}"]),
        ("12个+25个=37个;37个-8个=30个", ["12个+25个=37", "37个-8个=30"]),
        ("He has 1,200+5=1,205 apples.", ["1,200+5=1,205"]),
        ("-5+8=3", ["-5+8=3"]),
        ("😀 1+1=3 and 0.5*4=2.0", ["1+1=3", "0.5*4=2.0"]),
        ("1亿2000万+3000万=1亿5000万", ["1亿2000万+3000万=1亿5000万"]),
        ("x=3, 没有算式", []),
        ("12+25\n=37\n=30+7", ["12+25\n=37", "\n=30+7"]),
        ("一" * 500 + " 2+2=5", [""]),  # too long to look through
    ],
)
def test_places(text, places):
    found = locate_equations(text)
    assert [text[one.start : one.end] for one in found] == places
    assert [one.equation for one in found] == find_equations(text)


_parts = st.sampled_from(
    ["12", "3", ",", "+", "=", "×", "个", " ", "(", ")", "。", "36", "15", "\n", "a", "3+12=15", "苹果"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_parts, max_size=25).map("".join))
def test_what_is_marked_is_what_was_judged(text):
    found = locate_equations(text)
    assert [one.equation for one in found] == find_equations(text)
    placed = [one for one in found if one.end]
    assert all(a.end <= b.start for a, b in zip(placed, placed[1:], strict=False))
    for before, one in zip([0, *(one.end for one in placed)], placed, strict=False):
        # one that goes on from the equation before it begins where that one ends
        assert one.start == before or find_equations(text[one.start : one.end])[-1] == one.equation


def test_a_long_text_is_read_in_time():
    text = "。".join(f"{n}+{n}={2 * n}" for n in range(1, 150)) + "12+25=37," * 45
    assert ends_within(2, lambda: locate_equations(text))
