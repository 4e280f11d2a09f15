"""Messages of the package on the command line: no spelling of Python."""

import pytest

from hf_reason.cli.parsing.spelling import as_typed

NAMES = {"overwrite", "packing", "padding_free", "schema", "num_samples", "tokenizer_name_or_path", "thinking"}


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("or pass overwrite=True (--overwrite) to replace it.", "or give --overwrite to replace it."),
        ("name a layout with schema= (--schema).", "name a layout with --schema."),
        ("set packing=False and padding_free=False.", "set --packing false and --padding_free false."),
        ("num_samples=4 without sampling", "--num_samples 4 without sampling"),
        ("tokenizer_name_or_path='a b': none", "--tokenizer_name_or_path 'a b': none"),
        ("pass a peft_config (use_peft).", "give --use_peft true."),
        ("needs thinking=True (it is False)", "needs --thinking true (it is False)"),
        ("https://x/?packing=True and streaming=True.", "https://x/?packing=True and streaming=True."),
    ],
)
def test_arguments_are_spelled_as_they_are_typed(message, typed) -> None:
    assert as_typed(message, NAMES) == typed
