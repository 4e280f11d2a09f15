"""`recipes/lora_reasoner.py`: alone, on two processes, interrupted and resumed, and its errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from hf_reason.trainers import ReasonerLoRATrainer

RECIPE = str(Path(__file__).parents[2] / "recipes" / "lora_reasoner.py")
SETTINGS = {
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "max_length": 512,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "test_records": 3,
    "eval_max_new_tokens": 8,
    "lora_dropout": 0.0,
    "dataloader_pin_memory": False,
    "train_sampling_strategy": "sequential",
    "eval_distractors": False,
    "reasoner_share": 0.5,
    "ranking_records": 6,
    "lora_target_modules": "all-linear",
    "instructions": "default",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of four layers with the tests' tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(_session_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=_session_tokenizer.eos_token_id,
        pad_token_id=_session_tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    _session_tokenizer.save_pretrained(folder)
    return str(folder)


def _arguments(tmp_path, dataset, base, output, *extra, **settings) -> list[str]:
    config = tmp_path / "config.yaml"
    values = {**SETTINGS, "dataset": dataset, "model_name_or_path": base, **settings}
    config.write_text(yaml.safe_dump(values, allow_unicode=True))
    return ["--config", str(config), "--output_dir", str(output), *extra]


def _curve(output: Path) -> dict[int, float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def test_alone_and_on_two_processes(tmp_path, dataset, base, run_here):
    """Two processes rank the same layers and train as one does with twice the batch."""
    one = tmp_path / "one"
    arguments = _arguments(tmp_path, dataset, base, one, per_device_train_batch_size=8)
    done = run_here("lora_reasoner.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "rank  layer" in done.stdout and "Trainable: " in done.stdout
    assert "No weight of the base model moved" in done.stdout
    written = {"adapter_model.safetensors", "base_model.json", "instructions.yaml", "reasoner_layers.png", "README.md"}
    assert written <= {path.name for path in one.iterdir()}
    assert "is finished: nothing to do" in run_here("lora_reasoner.py", *arguments).stdout
    two = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", RECIPE]
    command = [*launcher, *_arguments(tmp_path, dataset, base, two, expected_world_size=2)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    layers = [json.loads((folder / "reasoner_layers.json").read_text())["layers"] for folder in (one, two)]
    assert layers[0] == layers[1] and len(layers[0]) == 2
    assert _curve(two) == pytest.approx(_curve(one), abs=1e-4)


def test_interrupted_run_goes_on(tmp_path, dataset, base, monkeypatch, run_here):
    assert run_here("lora_reasoner.py", *_arguments(tmp_path, dataset, base, tmp_path / "whole")).returncode == 0
    step = ReasonerLoRATrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    stopped = _arguments(tmp_path, dataset, base, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(ReasonerLoRATrainer, "training_step", interrupt)
        done = run_here("lora_reasoner.py", *stopped)
    assert done.returncode == 130 and "goes on from the last checkpoint" in done.stderr
    done = run_here("lora_reasoner.py", *stopped)
    assert done.returncode == 0, done.stderr
    # the ranking is read, not made again
    assert "Going on from" in done.stdout and "rank  layer" not in done.stdout
    assert _curve(tmp_path / "stopped") == pytest.approx(_curve(tmp_path / "whole"), abs=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--domain", "legal"], "no record of the domain 'legal'"),
        (["--instructions", "no/such.yaml"], "no file no/such.yaml"),
        (["--reasoner_layers", "9"], "no layer '9'"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
        (["--domain_shares", '{"law": 1}'], "no domain law"),
        (["--load_in_4bit", "true", "--reasoner_share", "2"], "reasoner_share"),
    ],
)
def test_errors_are_one_line_with_the_mend(tmp_path, dataset, base, run_here, extra, message):
    done = run_here("lora_reasoner.py", *_arguments(tmp_path, dataset, base, tmp_path / "out", *extra))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]
