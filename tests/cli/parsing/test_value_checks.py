"""Values that no command can use are one line before anything is loaded."""

import pytest

from hf_reason.cli.parsing import checks
from hf_reason.cli.parsing.checks import check_values


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("per_device_train_batch_size", 0, "per_device_train_batch_size must be at least 1, got 0."),
        ("gradient_accumulation_steps", -2, "gradient_accumulation_steps must be at least 1, got -2."),
        ("learning_rate", -1e-3, "learning_rate must be 0 or more, got -0.001."),
        ("learning_rate", float("nan"), "learning_rate must be 0 or more, got nan."),
        (
            "model_type",
            "qwen22",
            "--model_type qwen22: there is no such type of model in transformers; did you mean qwen2",
        ),
        ("model_type", "zzz", "qwen2, llama and step_reasoner are some."),
        ("report_to", "tensorbord", "--report_to tensorbord: there is no such tracker; did you mean tensorboard?"),
        ("report_to", ["none", "xyz"], "--report_to xyz: there is no such tracker; there are "),
    ],
)
def test_what_is_refused(name, value, message) -> None:
    with pytest.raises(ValueError) as caught:
        check_values({name: value}, {name})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_accepted(monkeypatch) -> None:
    monkeypatch.setattr(checks, "_is_installed", lambda name: True)
    values = {
        "learning_rate": 0.0,
        "max_length": None,
        "per_device_train_batch_size": 1,
        "model_type": "step_reasoner",
        "report_to": ["wandb", "trackio"],
    }
    check_values(values, values)
    check_values({"learning_rate": 0.1, "report_to": "all"}, {"report_to"})
    check_values({"learning_rate": -1.0}, ())  # a default is not the user's mistake
