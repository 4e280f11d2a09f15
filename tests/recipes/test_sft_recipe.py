"""`recipes/sft_cot.py` from the command line: train, resume, evaluate, card, push, and its errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hub_server import HubServer

RECIPE = Path(__file__).parents[2] / "recipes" / "sft_cot.py"
SETTINGS = {
    "model_type": "qwen2",
    "vocab_size": 400,
    "model_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    },
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "max_length": 512,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "step_accuracy",
    "greater_is_better": True,
    "eval_records": 2,
    "test_records": 3,
    "eval_max_new_tokens": 8,
    "dataloader_pin_memory": False,
}
ANSWER = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": "小明有12个苹果,卖出8个。现在有多少个苹果?"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
print(json.dumps([output[0].tolist(), model.generation_config.eos_token_id]))
"""


def _command(tmp_path, dataset, *extra, **settings) -> list[str]:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "dataset": dataset, **settings}, allow_unicode=True))
    return [str(RECIPE), "--config", str(config), *extra]


def _run(command, env=None, launcher=()) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, *command]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=150)


def _curve(output: Path) -> dict[int, float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def test_run_is_evaluated_documented_and_pushed(tmp_path, dataset):
    """Through a Hub on loopback: a fresh process loads the pushed model and gives the same answer (pain 5, too)."""
    output = tmp_path / "out"
    with HubServer(tmp_path / "hub") as hub:
        options = ["--output_dir", str(output), "--push_to_hub", "true", "--hub_model_id", "tester/reasoner"]
        done = _run(_command(tmp_path, dataset, *options), env=hub.env("trainer"))
        assert done.returncode == 0, done.stderr[-3000:]
        script = tmp_path / "answer.py"
        script.write_text(ANSWER)
        local = _run([str(script), str(output)])
        pushed = _run([str(script), "tester/reasoner"], env=hub.env("somebody else"))
        assert pushed.returncode == 0, pushed.stderr[-3000:]
        assert json.loads(pushed.stdout) == json.loads(local.stdout)
        files = hub.files("tester/reasoner")
        assert not [name for name in files if name.startswith("checkpoint-")]
        assert b"step accuracy" in files["README.md"].lower()
    figures = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert figures["num_records"] == 3
    assert list((output / "evaluation").glob("*.png"))
    assert _curve(output).keys() == {1, 2, 3, 4}
    assert json.loads(local.stdout)[1] == json.loads((output / "generation_config.json").read_text())["eos_token_id"]


def test_killed_run_goes_on_and_repeats_the_uninterrupted_curve(tmp_path, dataset):
    options = {"max_steps": 12, "save_steps": 3, "eval_steps": 3, "load_best_model_at_end": False}
    whole = _run(_command(tmp_path, dataset, "--output_dir", str(tmp_path / "whole"), **options))
    assert whole.returncode == 0, whole.stderr[-3000:]
    command = [sys.executable, *_command(tmp_path, dataset, "--output_dir", str(tmp_path / "killed"), **options)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "trainer_state.json").exists()
    resumed = _run(_command(tmp_path, dataset, "--output_dir", str(tmp_path / "killed"), **options))
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert _curve(tmp_path / "killed") == pytest.approx(_curve(tmp_path / "whole"), abs=1e-6)


def test_two_processes_train_together(tmp_path, dataset):
    """Under torchrun the two processes are one run; its data are those of one process with twice the batch."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    base = {"train_sampling_strategy": "sequential", "eval_strategy": "no", "load_best_model_at_end": False}
    two = _command(tmp_path, dataset, "--output_dir", str(tmp_path / "two"), expected_world_size=2, **base)
    done = _run(two, launcher=launcher)
    assert done.returncode == 0, done.stderr[-3000:]
    one = _command(tmp_path, dataset, "--output_dir", str(tmp_path / "one"), per_device_train_batch_size=8, **base)
    assert _run(one).returncode == 0
    assert _curve(tmp_path / "two") == pytest.approx(_curve(tmp_path / "one"), abs=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dataset", "no/such/folder"], "no/such/folder"),
        (["--domain", "magic"], "magic"),
        (["--model_name_or_path", "./nothing"], "nothing"),
        (["--expected_world_size", "2"], "torchrun"),
        (["--max_length", "5"], "Raise max_length"),
    ],
)
def test_errors_are_one_line_with_the_mend(tmp_path, dataset, run_here, extra, message):
    _, *arguments = _command(tmp_path, dataset, "--output_dir", str(tmp_path / "out"), *extra)
    done = run_here("sft_cot.py", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]
