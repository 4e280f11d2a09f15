"""One parser for every option that names layers."""

import pytest

from hf_reason.models.layer_selection import parse_layers, reasoning_stack
from tests.tiny import tiny_qwen2

NAMES = [f"model.layers.{number}" for number in range(8)]


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("2-4", [2, 3, 4]),
        ("5,0,3", [0, 3, 5]),
        ("0 1 2", [0, 1, 2]),
        (["0", "1", "2"], [0, 1, 2]),
        ([6, 6, 1], [1, 6]),
        (("0-1", "7"), [0, 1, 7]),
        (3, [3]),
        ("all", list(range(8))),
        (["all"], list(range(8))),
        ("shallow_half", [0, 1, 2, 3]),
        (0.25, [0, 1]),
        ("0.25", [0, 1]),
        (["0.5"], [0, 1, 2, 3]),
        (1.0, list(range(8))),
        (0.01, [0]),
        ("model.layers.2, model.layers.5", [2, 5]),
        ("model.layers.2,6-7", [2, 6, 7]),
    ],
)
def test_every_spelling(spec, layers):
    assert parse_layers(spec, 8, NAMES) == layers


def test_the_smaller_half_and_at_least_one_layer():
    assert parse_layers("shallow_half", 5) == [0, 1]
    assert parse_layers("shallow_half", 1) == [0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("8", "reasoner_layers: there is no layer '8': the layers are 0 to 7 .model.layers.0 to model.layers.7."),
        ("6-9", "there is no layer '6-9'"),
        ("4-2", "there is no layer '4-2'"),
        ([-1], "reasoner_layers=-1 does not name layers"),
        ("model.layers.8", "does not name layers"),
        ("deep", "does not name layers. Give a range"),
        (1.5, "does not name layers"),
        ("0.0", "does not name layers"),
        (True, "does not name layers"),
        ("", "names no layer"),
        ([], "names no layer"),
    ],
)
def test_what_names_no_layer_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        parse_layers(spec, 8, NAMES, "reasoner_layers")


def test_names_are_those_of_the_stack(tokenizer):
    stack = reasoning_stack(tiny_qwen2(tokenizer))
    assert stack.names == ["model.layers.0", "model.layers.1"]
    assert parse_layers("model.layers.1", 2, stack.names) == [1]
