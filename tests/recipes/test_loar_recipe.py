"""`recipes/loar.py`: the whole flow alone and on two processes, interrupted and resumed, asked and evaluated again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

from hf_reason.models.loar.configuration import LoARConfig
from hf_reason.trainers import CoTSFTTrainer

RECIPES = Path(__file__).parents[2] / "recipes"
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
    "calibration_records": 4,
    "budget": 0.5,
    "task_names": ["math"],
    "task_dropout": 0.0,
    "loar_window": 16,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of two layers and four key/value groups with the tests' tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(_session_tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
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


def test_alone_on_two_processes_and_asked_afterwards(tmp_path, dataset, base, run_here):
    one = tmp_path / "one"
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, one, per_device_train_batch_size=8))
    assert done.returncode == 0, done.stderr
    assert "Question:" in done.stdout and "Answer:" in done.stdout and "What each group is worth on 4" in done.stdout
    written = {"model.safetensors", "loar_config.json", "loar.safetensors", "README.md"}
    assert written <= {path.name for path in one.iterdir()}
    assert LoARConfig.load(one / "loar_config.json").prompt_end_ids
    two = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, str(RECIPES / "loar.py"), *_arguments(tmp_path, dataset, base, two, expected_world_size=2)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert _curve(two) == pytest.approx(_curve(one), abs=1e-4)
    figures = json.loads((one / "evaluation" / "evaluation.json").read_text())
    evaluate = ["--model", str(one), "--data", dataset, "--limit", "3", "--max_new_tokens", "8"]
    assert run_here("evaluate.py", *evaluate, "--output_dir", str(tmp_path / "report")).returncode == 0
    again = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    for name in ("template_hash", "answer_accuracy", "reasoning_length"):
        assert again[name] == figures[name]  # evaluate.py has found the adapter
    more = _arguments(tmp_path, dataset, str(one), tmp_path / "more", max_steps=1, budget=1.0)
    done = run_here("loar.py", *more)  # routers and budget are those of the saved one
    assert done.returncode == 0 and "LoAR of its own" in done.stdout and "worth" not in done.stdout, done.stderr
    saved = LoARConfig.load(tmp_path / "more" / "loar_config.json")
    assert saved.budgets(2, 4) == [2, 2] and saved.sliding_window == 16
    asked = run_here("ask.py", "--model", str(one), "--question", "1+1?", "--max_thought_tokens", "16")
    assert asked.returncode == 0, asked.stderr


def test_interrupted_run_goes_on_with_a_lora(tmp_path, dataset, base, monkeypatch, run_here):
    options = {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"], "search_records": 2}
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, tmp_path / "whole", **options))
    assert done.returncode == 0 and "the uniform" in done.stdout, done.stderr
    step = CoTSFTTrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    stopped = _arguments(tmp_path, dataset, base, tmp_path / "stopped", **options)
    with monkeypatch.context() as patch:
        patch.setattr(CoTSFTTrainer, "training_step", interrupt)
        assert run_here("loar.py", *stopped).returncode == 130
    assert run_here("loar.py", *stopped).returncode == 0
    assert _curve(tmp_path / "stopped") == pytest.approx(_curve(tmp_path / "whole"), abs=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--budget", "2"], "budget must be a share"),
        (["--budget", "1,2,3"], "2 layers of 4 groups"),
        (["--budget", "much"], "neither a share nor a list"),
        (["--static_groups", "[[0],"], "not JSON"),
        (["--packing", "true"], "packing=False"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
    ],
)
def test_errors_are_one_line_with_the_mend(tmp_path, dataset, base, run_here, extra, message):
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, tmp_path / "out", *extra))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]
