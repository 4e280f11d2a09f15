"""The arguments for longer contexts: as typed, as YAML has them, and what they do to a model."""

import json

import pytest
from datasets import Dataset, DatasetDict

from hf_reason.cli.arguments import LongContextArguments
from hf_reason.cli.inputs.long_context import apply_long_context
from hf_reason.cli.main import main


@pytest.mark.parametrize("given", ["shallow_half", 0.5, [0], "0-0", 0])
def test_layers_may_be_given_in_several_ways(tiny_model, given):
    apply_long_context(LongContextArguments(sliding_window=4, sliding_window_layers=given), tiny_model)
    assert tiny_model.config.layer_types == ["sliding_attention", "full_attention"]


def test_what_is_set_is_applied(tiny_model):
    apply_long_context(LongContextArguments(), tiny_model)
    assert tiny_model.config.sliding_window is None
    assert tiny_model.config.rope_parameters["rope_type"] == "default"
    options = {"sliding_window": 8, "sliding_window_layers": "all", "rope_scaling": '{"factor": 2, "beta_fast": 16}'}
    apply_long_context(LongContextArguments(**options), tiny_model)
    config = tiny_model.config
    assert (config.sliding_window, config.layer_types) == (8, ["sliding_attention"] * 2)
    assert (config.rope_parameters["rope_type"], config.rope_parameters["beta_fast"]) == ("yarn", 16)
    assert config.max_position_embeddings == 1024


def test_layers_that_do_not_exist_are_refused(tiny_model):
    with pytest.raises(ValueError, match="layer"):
        apply_long_context(LongContextArguments(sliding_window=4, sliding_window_layers="0,all,9"), tiny_model)


def test_sft_trains_and_saves_such_a_model(tmp_path, records, caplog):
    folder, rows = tmp_path / "data", Dataset.from_list(records)
    DatasetDict({"train": rows, "test": rows.select(range(2))}).save_to_disk(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = {
        "dataset_name": folder,
        "output_dir": tmp_path / "out",
        "vocab_size": 400,
        "max_steps": 1,
        "max_length": 150,
        "model_config": json.dumps({**sizes, "max_position_embeddings": 128}),
        "overlong": "split",
        "sliding_window": 16,
        "rope_scaling": '{"factor": 2}',
        "use_cpu": "true",
        "report_to": "none",
        "eval_strategy": "no",
        "max_test_records": 1,
        "eval_max_completion_length": 4,
        "gradient_checkpointing": "false",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["sft", *words, "--sliding_window_layers", "0"]) == 0
    assert "split at step boundaries into" in caplog.text
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["sliding_window"], config["layer_types"]) == (16, ["sliding_attention", "full_attention"])
    assert (config["rope_parameters"]["rope_type"], config["max_position_embeddings"]) == ("yarn", 256)
