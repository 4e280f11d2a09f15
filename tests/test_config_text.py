"""Settings that were given as text, in Python as in a YAML."""

import pytest

from hf_reason import CoTSFTConfig


@pytest.mark.parametrize(
    ("text", "value"), [("no", False), ("False", False), ("ON", True), ("1", True), ("true", True)]
)
def test_switches_as_text(tmp_path, text, value):
    args = CoTSFTConfig(str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=text, packing="false")
    assert args.gradient_checkpointing is value and args.packing is False


def test_a_text_that_is_no_switch(tmp_path):
    with pytest.raises(ValueError, match="gradient_checkpointing must be true or false, got 'maybe'"):
        CoTSFTConfig(str(tmp_path), use_cpu=True, gradient_checkpointing="maybe")
