"""`recipes/demo.py` and `recipes/ask.py` from end to end, with models too small to learn."""

import json
import os
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"
TINY = json.dumps(
    {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
)
STEP_TINY = json.dumps(
    {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_encoder_layers": 1,
        "num_reasoner_layers": 1,
        "num_decoder_layers": 1,
        "num_attention_heads": 2,
    }
)
FAST = [
    "--max_steps",
    "4",
    "--save_steps",
    "4",
    "--eval_steps",
    "4",
    "--warmup_steps",
    "1",
    "--logging_steps",
    "1",
    "--lr_scheduler_kwargs",
    '{"num_decay_steps": 2}',
    "--per_device_train_batch_size",
    "4",
    "--eval_records",
    "2",
    "--test_records",
    "6",
    "--eval_max_new_tokens",
    "16",
    "--model_config",
    TINY,
    "--use_cpu",
    "true",
]


def _run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=200, env=os.environ)


def test_demo_runs_to_the_end_and_the_second_time_only_asks(tmp_path):
    command = [str(RECIPES / "demo.py"), "--output_dir", str(tmp_path), "--num_problems", "300"]
    first = _run(*command, *FAST)
    assert first.returncode == 0, (first.stdout + first.stderr)[-3000:]
    for words in ("CoT", "direct answers", "exact answers on", "Question:", "Answer:"):
        assert words in first.stdout
    for path in ("data/report.html", "comparison/evaluation.json", "demo/README.md", "demo_direct/model.safetensors"):
        assert (tmp_path / path).is_file()
    figures = json.loads((tmp_path / "comparison" / "evaluation.json").read_text())
    assert set(figures) == {"CoT", "direct answers"}
    trained = (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns
    second = _run(*command, *FAST, "--question", "小明有12个苹果,卖出8个。现在有多少个苹果?")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "小明有12个苹果,卖出8个" in second.stdout
    assert (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns == trained
    # the second half trains only the model that is missing, and shows all three
    small = [STEP_TINY if word == TINY else word for word in FAST]
    third = _run(*command, *small, "--step_reasoner", "--question", "小明有12个苹果,卖出8个。现在有多少个苹果?")
    assert third.returncode == 0, (third.stdout + third.stderr)[-3000:]
    figures = json.loads((tmp_path / "comparison" / "evaluation.json").read_text())
    assert set(figures) == {"CoT", "direct answers", "StepReasoner"}
    assert third.stdout.count("小明有12个苹果") == 2, "both models that reason are asked"
    assert (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns == trained
    config = json.loads((tmp_path / "demo_step_reasoner" / "config.json").read_text())
    assert config["model_type"] == "step_reasoner"
    assert config["boundary_token_ids"] and config["trigger_token_ids"]


def test_a_training_run_that_fails_is_shown_with_its_log(tmp_path):
    command = [str(RECIPES / "demo.py"), "--output_dir", str(tmp_path), "--num_problems", "50"]
    done = _run(*command, "--model_config", '{"hiden_size": 8}')
    assert done.returncode == 1
    assert "no field hiden_size" in done.stderr
    assert "Traceback" not in done.stderr


def test_ask_with_a_wrong_path_is_one_line(tmp_path):
    done = _run(str(RECIPES / "ask.py"), "--model", str(tmp_path / "nothing"), "--question", "1+1=?")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("Error:")
