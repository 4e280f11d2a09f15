"""Traditional characters become simplified ones: by words, with every position kept."""

import subprocess
import sys

import pytest
from cpu_time import ends_within

from hf_reason.answers.traditional import simplified


@pytest.mark.parametrize(
    ("traditional", "expected"),
    [
        ("雞兔同籠，共有幾隻？", "鸡兔同笼，共有几只？"),
        ("首先,計算總數;然後求餘數。", "首先,计算总数;然后求余数。"),
        ("故選 A、C", "故选 A、C"),
        ("乾淨的乾坤與著名的藉口", "干净的乾坤与著名的借口"),
        ("皇后以後", "皇后以后"),
        ("四捨五入後約為三萬兩千", "四舍五入后约为三万两千"),
        ("臺灣的時鐘", "台湾的时钟"),
        ("裏面和裡面", "里面和里面"),
        ("爲什麼", "为什么"),
        ("已经是简体：著名的干燥剂", "已经是简体：著名的干燥剂"),
        ("plain ASCII 12×3=36", "plain ASCII 12×3=36"),
        ("a\x00個\ud800兩個😀", "a\x00个\ud800两个😀"),
        ("", ""),
    ],
)
def test_simplified(traditional: str, expected: str) -> None:
    assert simplified(traditional) == expected
    assert len(traditional) == len(expected)


def test_a_conversion_is_final() -> None:
    text = "小明買了三個蘋果和兩顆橙子,請問總共幾個?為什麼?後來又給了乾媽一個。"
    assert simplified(simplified(text)) == simplified(text)


def test_every_character_gives_one_character() -> None:
    characters = [chr(code) for code in range(0x3400, 0xA000)]
    assert all(len(simplified(char)) == 1 for char in characters)


def test_time_is_linear() -> None:
    text = "請問總共有幾個蘋果?" * 10_000
    simplified("個")
    assert ends_within(1, lambda: simplified(text))


def test_no_import_before_use() -> None:
    code = "import sys, hf_reason.answers.traditional as t; t.simplified('abc'); assert 'opencc' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
