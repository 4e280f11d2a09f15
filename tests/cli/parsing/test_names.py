"""What is said about an argument that does not exist."""

import pytest

from hf_reason.cli.parsing.names import explain_unknown

KNOWN = ["dataset_name", "model_name_or_path", "lmbda", "learning_rate"]


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("datset", "dataset_name"),
        ("modle", "model_name_or_path"),
        ("on_policy_shar", "lmbda"),
        ("imput", "dataset_name"),
    ],
)
def test_a_misspelt_name_of_the_first_version_leads_to_the_new_one(name, new):
    assert explain_unknown(name, KNOWN, {"on_policy_share": "lmbda"}).endswith(f"did you mean --{new}?")


def test_a_name_that_is_near_none_gets_no_guess():
    assert "did you mean" not in explain_unknown("xyzzy", KNOWN)


@pytest.mark.parametrize(
    ("name", "new"),
    [
        *(("use_lora", "use_peft"), ("template", "instructions"), ("quantization_bit", "load_in_4bit")),
        *(("flash-attn", "attn_implementation"), ("wandb", "report_to"), ("test_ratio", "test_size")),
    ],
)
def test_names_that_other_tools_have(name, new):
    known = [
        *KNOWN,
        "use_rslora",
        "use_peft",
        "instructions",
        "load_in_4bit",
        "attn_implementation",
        "report_to",
        "test_size",
    ]
    assert explain_unknown(name, known).endswith(f"did you mean --{new}?")
