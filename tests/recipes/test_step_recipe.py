"""`recipes/sft_cot.py --model_type step_reasoner`: from scratch, going on, and from its checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

RECIPES = Path(__file__).parents[2] / "recipes"
MODEL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_encoder_layers": 1,
    "num_reasoner_layers": 1,
    "num_decoder_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "triggers": ["="],
}
SETTINGS = {
    "vocab_size": 400,
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
    "eval_records": 2,
    "test_records": 3,
    "eval_max_new_tokens": 8,
    "dataloader_pin_memory": False,
}
SCRATCH = ["--model_type", "step_reasoner", "--model_config", json.dumps(MODEL)]


def _run(folder: Path, dataset: str, *extra: str) -> subprocess.CompletedProcess:
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump({**SETTINGS, "dataset": dataset}, allow_unicode=True))
    command = [sys.executable, str(RECIPES / "sft_cot.py"), "--config", str(config), "--output_dir", str(folder)]
    return subprocess.run([*command, *extra], capture_output=True, text=True, env=os.environ, timeout=150)


def _curve(folder: Path) -> dict[int, float]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def test_trains_goes_on_and_its_checkpoint_is_a_model(tmp_path, dataset):
    from transformers import AutoModelForCausalLM

    whole, again, tuned = tmp_path / "whole", tmp_path / "again", tmp_path / "tuned"
    done = _run(whole, dataset, *SCRATCH)
    assert done.returncode == 0, done.stderr[-3000:]
    assert _curve(whole).keys() == {1, 2, 3, 4}
    assert json.loads((whole / "evaluation" / "evaluation.json").read_text())["num_records"] == 3
    config = json.loads((whole / "config.json").read_text())
    assert config["model_type"] == "step_reasoner"
    assert config["thought_start_token_ids"] and config["boundary_token_ids"] and config["trigger_token_ids"]
    assert type(AutoModelForCausalLM.from_pretrained(whole)).__name__ == "StepReasonerForCausalLM"
    # a run that was stopped after step 2
    again.mkdir()
    for name in ("checkpoint-2", "tokenizer"):
        shutil.copytree(whole / name, again / name)
    shutil.copy(whole / "run.json", again)
    done = _run(again, dataset, *SCRATCH)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Going on from" in done.stdout
    assert _curve(again) == pytest.approx(_curve(whole), abs=1e-6)
    # and packed, with LoRA on the reasoner only, from the finished model
    targets = r".*\.reasoner\.\d+\.self_attn\.[qv]_proj"
    lora = ["--use_peft", "true", "--lora_target_modules", targets, "--packing", "true"]
    done = _run(tuned, dataset, "--model_name_or_path", str(whole), "--max_steps", "2", *lora)
    assert done.returncode == 0, done.stderr[-3000:]
    with safe_open(tuned / "adapter_model.safetensors", "pt") as adapter:
        assert len(adapter.keys()) == 4
        assert all(".reasoner.0.self_attn." in name for name in list(adapter.keys()))


def test_the_demos_config_differs_from_demo_only_in_the_model():
    demo, ours = (
        yaml.safe_load((RECIPES / "configs" / "sft_cot" / f"{name}.yaml").read_text())
        for name in ("demo", "demo_step_reasoner")
    )
    different = {name for name in demo.keys() | ours.keys() if demo.get(name) != ours.get(name)}
    assert different == {"model_type", "model_config", "output_dir"}
