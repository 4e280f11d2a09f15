"""What must not leave the machine is known by its name, or by what it looks like."""

import pytest

from hf_reason._private import is_secret, public, without_secrets


@pytest.mark.parametrize(
    "name",
    [
        *(
            "token",
            "hub_token",
            "HF_TOKEN",
            "password",
            "passwd",
            "client_secret",
            "api_key",
            "apikey",
            "OPENAI-API-KEY",
        ),
        *(
            "aws_secret_access_key",
            "private_key",
            "Authorization",
            "authorization",
            "auth",
            "Cookie",
            "bearer",
            "credentials",
        ),
    ],
)
def test_secrets_by_name(name):
    assert is_secret(name)
    assert without_secrets({"headers": {name: "x", "Accept": "json"}}) == {"headers": {"Accept": "json"}}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "max_new_tokens",
            "eos_token",
            "pad_token",
            "author",
            "num_tokens",
            "tokenizer_name_or_path",
            "key_node_coverage",
        )
    ],
)
def test_ordinary_names(name):
    assert not is_secret(name)


@pytest.mark.parametrize(
    "value",
    [
        "hf_abcdefghijKLMNOP",
        "sk-proj-0123456789ab",
        "Bearer 0123456789abcdef",
        "Basic dXNlcjpwYXNz",
        "ghp_0123456789abcdef",
    ],
)
def test_secrets_by_value(value):
    assert without_secrets({"extra": [value, "x"], "X-Key": value, "n": 1}) == {"extra": ["x"], "n": 1}
    assert without_secrets(value) is None and public({"X-Key": value}) == {}


@pytest.mark.parametrize("value", ["hf_reason", "sk-learn", "Basic", "Qwen/Qwen2.5-0.5B", "bfloat16", "AKIA"])
def test_ordinary_values(value):
    assert without_secrets(value) == value
