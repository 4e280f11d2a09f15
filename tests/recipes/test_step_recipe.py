"""`recipes/sft_cot.py --model_type step_reasoner`: from scratch, going on, and from its checkpoint."""

import json
import shutil

import pytest
import yaml
from safetensors import safe_open
from tiny import RECIPES, TINY_STEP_SIZES, logged_curve, recipe_arguments

MODEL = {**TINY_STEP_SIZES, "triggers": ["="]}
SETTINGS = {"vocab_size": 400, "learning_rate": 1e-3, "eval_strategy": "steps", "eval_steps": 2, "max_eval_records": 2}
SCRATCH = ["--model_type", "step_reasoner", "--model_config", json.dumps(MODEL)]


def test_trains_resumes_and_its_checkpoint_is_a_model(tmp_path, dataset, run_here):
    from transformers import AutoModelForCausalLM

    def run(folder, *extra):
        return run_here("sft_cot.py", *recipe_arguments(tmp_path, folder, *extra, **SETTINGS, dataset_name=dataset))

    whole, again, tuned = tmp_path / "whole", tmp_path / "again", tmp_path / "tuned"
    done = run(whole, *SCRATCH)
    assert done.returncode == 0, done.stderr[-3000:]
    assert logged_curve(whole).keys() == {1, 2, 3, 4}
    assert json.loads((whole / "evaluation" / "evaluation.json").read_text())["num_records"] == 3
    config = json.loads((whole / "config.json").read_text())
    assert config["model_type"] == "step_reasoner"
    assert config["thought_start_token_ids"] and config["boundary_token_ids"] and config["trigger_token_ids"]
    assert type(AutoModelForCausalLM.from_pretrained(whole)).__name__ == "StepReasonerForCausalLM"
    # a run that was stopped after step 2
    again.mkdir()
    for name in ("checkpoint-2", "tokenizer"):
        shutil.copytree(whole / name, again / name)
    run_file = json.loads((whole / "run.json").read_text())
    assert run_file.pop("finished_at_step") == 4
    (again / "run.json").write_text(json.dumps(run_file))
    done = run(again, *SCRATCH)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Resuming from" in done.stdout
    assert logged_curve(again) == pytest.approx(logged_curve(whole), abs=1e-6)
    # and packed, with LoRA on the reasoner only, from the finished model
    targets = r".*\.reasoner\.\d+\.self_attn\.[qv]_proj"
    lora = ["--use_peft", "true", "--lora_target_modules", targets, "--packing", "true"]
    done = run(tuned, "--model_name_or_path", str(whole), "--max_steps", "2", *lora)
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
