"""The recipes' arguments for longer contexts: as typed, as YAML has them, and what they do to a model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hf_reason.cli import LongContextArguments

RECIPE = Path(__file__).parents[2] / "recipes" / "sft_cot.py"


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        (["shallow_half"], "shallow_half"),
        ("all", "all"),
        (["0.5"], 0.5),
        (0.5, 0.5),
        (["0", "1"], [0, 1]),
        ([0, 1], [0, 1]),
        (["0"], [0]),
        (1, [1]),
    ],
)
def test_layers_may_be_given_in_four_ways(given, layers):
    assert LongContextArguments(sliding_window=4, sliding_window_layers=given)._layers() == layers


def test_what_is_set_is_applied(tiny_model):
    LongContextArguments().apply(tiny_model)
    assert tiny_model.config.sliding_window is None
    assert tiny_model.config.rope_parameters["rope_type"] == "default"
    options = {"sliding_window": 8, "sliding_window_layers": "all", "rope_scaling": '{"factor": 2, "beta_fast": 16}'}
    LongContextArguments(**options).apply(tiny_model)
    config = tiny_model.config
    assert (config.sliding_window, config.layer_types) == (8, ["sliding_attention"] * 2)
    assert (config.rope_parameters["rope_type"], config.rope_parameters["beta_fast"]) == ("yarn", 16)
    assert config.max_position_embeddings == 1024


def test_wrong_values_say_so_before_a_model_loads():
    with pytest.raises(ValueError, match="rope_scaling is not JSON"):
        LongContextArguments(rope_scaling="factor 4")
    with pytest.raises(ValueError, match="rope_scaling lacks the factor"):
        LongContextArguments(rope_scaling={"rope_type": "yarn"})
    with pytest.raises(ValueError, match="share with a decimal point, or layer numbers"):
        LongContextArguments(sliding_window_layers=["0", "all"])


def test_the_recipe_trains_and_saves_such_a_model(tmp_path, records):
    folder, rows = tmp_path / "data", Dataset.from_list(records)
    DatasetDict({"train": rows, "test": rows.select(range(2))}).save_to_disk(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = {
        "dataset": folder,
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
        "test_records": 1,
        "eval_max_new_tokens": 4,
        "gradient_checkpointing": "false",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(RECIPE), *words, "--sliding_window_layers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=150)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "split at step boundaries into" in done.stderr
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["sliding_window"], config["layer_types"]) == (16, ["sliding_attention", "full_attention"])
    assert (config["rope_parameters"]["rope_type"], config["max_position_embeddings"]) == ("yarn", 256)
