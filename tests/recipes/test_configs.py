"""Every YAML of the training recipe has only arguments that exist, and values that its classes take."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig

from hf_reason.cli import EvaluationArguments, ScratchArguments
from hf_reason.trainers import CoTSFTConfig

RECIPES = Path(__file__).parents[2] / "recipes"
CONFIGS = sorted((RECIPES / "configs" / "sft_cot").glob("*.yaml"))


@pytest.fixture(scope="module")
def data_arguments():
    sys.path.insert(0, str(RECIPES))
    try:
        from hf_reason.cli import DataArguments
    finally:
        sys.path.remove(str(RECIPES))
    return DataArguments


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_its_arguments(path, data_arguments, tmp_path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    # what a test machine lacks is not what is tested here
    settings = {**settings, "bf16": False, "use_cpu": True, "output_dir": str(tmp_path)}
    taken = set()
    for cls in (data_arguments, ScratchArguments, EvaluationArguments, CoTSFTConfig, ModelConfig):
        names = {field.name for field in fields(cls)} & set(settings)
        cls(**{name: settings[name] for name in names})
        taken |= names
    assert taken == set(settings)
    assert settings["metric_for_best_model"] in ("step_accuracy", "answer_accuracy")
    assert settings["load_best_model_at_end"] is True


def test_the_two_sides_of_the_demo_differ_only_in_what_they_compare():
    cot, direct = (yaml.safe_load((CONFIGS[0].parent / f"{n}.yaml").read_text()) for n in ("demo", "demo_direct"))
    different = {name for name in cot.keys() | direct.keys() if cot.get(name) != direct.get(name)}
    compared = {"thinking", "output_dir", "metric_for_best_model"}
    assert different == compared | {"max_steps", "eval_steps", "save_steps", "lr_scheduler_kwargs"}
