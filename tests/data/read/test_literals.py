"""Lists that are written as text: JSON, Python, numpy; nothing is run."""

import numpy as np
import pytest

from hf_reason.data.read.literals import parsed

MESSAGES = [{"from": "human", "value": 'it\'s "3+4"\n=?, array(x)'}, {"from": "gpt", "value": "<think>t</think>{7}"}]


@pytest.mark.parametrize("value", [MESSAGES, {"a": [1, 2.5, None, True]}, [[1], [2]], {"from": ["x"], "value": ["y"]}])
def test_python_and_numpy(value):
    assert parsed(repr(value)) == value
    assert parsed(f" {value!r}\n") == value
    array = np.array(value, dtype=object)
    if array.ndim == 1:
        assert parsed(str(array)) == parsed(repr(array)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a' 'b\\'c'\n 'd']", ["a", "b'c", "d"]),
        ("array(['x', 'y'], dtype='<U1')", ["x", "y"]),
        (
            "{'m': array([{'a': array([1, 2])},\n       {'a': nan}], dtype=object)}",
            {"m": [{"a": [1, 2]}, {"a": None}]},
        ),
        ("[True False]", [True, False]),
        ('[{"a": null}, {"a": NaN}]', None),
        ("[{'a': true}]", [{"a": True}]),
        ("('a', 'b')", ("a", "b")),
    ],
)
def test_mixtures(text, value):
    assert parsed(text) == value if value is not None else parsed(text)[0] == {"a": None}


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "[a] b",
        "[f(1)]",
        "[__import__('os').getcwd()]",
        "[1 if True else 2]",
        "[x for x in (1,)]",
        "(a) 选项",
        "[",
    ]
    + ["[" * 5000, "[1, 2) ", "{1: ", "array", "text", "", "[1, ..., 3]", "解：[1]"],
)
def test_other_text_stays(text):
    assert parsed(text) == text
