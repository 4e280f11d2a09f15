"""The fraction of Chinese in an output: other scripts are not Chinese."""

from types import SimpleNamespace

import pytest

from hf_reason.evaluation.judging import _chinese

RECORD = {"context": "三箱共有多少支铅笔?", "language": "zh"}


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("<think>\n先求总数。\n</think>\n\n108支", 1.0),
        ("<think>\nИтак, всего сто восемь карандашей.\n</think>\n\n108", 0.0),
        ("<think>\nまず、全部で百八本です。\n</think>\n\n108", 0.0),
        ("<think>\n먼저 더합니다.\n</think>\n\n108", 0.0),
        ("先求總數。", 1.0),
        ("108", 1.0),
    ],
)
def test_outputs_in_other_scripts(text: str, ratio: float) -> None:
    assert _chinese(RECORD, SimpleNamespace(text=text)) == ratio  # type: ignore[arg-type]


@pytest.mark.parametrize("context", ["Сколько всего карандашей?", "全部で何本ですか。", "How many pencils are there?"])
def test_only_chinese_problems_are_measured(context: str) -> None:
    assert _chinese({"context": context}, SimpleNamespace(text="先求总数。")) is None  # type: ignore[arg-type]
