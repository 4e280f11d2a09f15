"""What the model card shows of a run's settings."""

from types import SimpleNamespace

import torch
from trl import ModelConfig

from hf_reason.cli.arguments import ContinualArguments, DataArguments, RoutingArguments
from hf_reason.cli.card_settings import card_settings
from hf_reason.models.loar import LoARConfig, apply_loar
from hf_reason.trainers import CoTSFTConfig, DistillKLConfig


def _args(tmp_path, cls=CoTSFTConfig, **values):
    return cls(str(tmp_path / "out"), use_cpu=True, bf16=False, **values)


def test_nothing_is_shown_that_was_not_set(tmp_path):
    groups = (DataArguments(), RoutingArguments(), _args(tmp_path), ModelConfig())
    assert card_settings(groups) == {}


def test_what_was_set_is_shown_from_all_classes(tmp_path):
    groups = (
        DataArguments(domain="math"),
        RoutingArguments(budget="4,3"),
        ContinualArguments(old_dataset="x", replay_ratio=0.5),
        _args(tmp_path, learning_rate=1e-3, max_steps=7, lr_scheduler_type="cosine", thought_weight=0.5, seed=3),
    )
    assert card_settings(groups) == {
        "domain": "math",
        "budget": "4,3",
        "replay_ratio": 0.5,
        "learning_rate": 1e-3,
        "max_steps": 7,
        "lr_scheduler_type": "cosine",
        "thought_weight": 0.5,
        "seed": 3,
    }


def test_how_a_run_is_logged_saved_and_pushed_is_not_shown(tmp_path):
    args = _args(
        tmp_path, logging_steps=1, save_steps=3, eval_steps=2, report_to="none", hub_model_id="a/b", run_name="x"
    )
    assert card_settings((args,)) == {}


def test_a_lora_is_shown_with_rank_and_targets(tmp_path):
    model = ModelConfig(model_name_or_path="base", use_peft=True, lora_target_modules=["q_proj"], lora_dropout=0.0)
    shown = card_settings((model,))
    assert (shown["lora_r"], shown["lora_alpha"], shown["lora_target_modules"]) == (16, 32, "q_proj")
    assert "model_name_or_path" not in shown and "use_peft" not in shown
    assert not [name for name in card_settings((ModelConfig(lora_r=4),)) if "lora" in name]


def test_no_secret_and_no_folder_of_the_machine(tmp_path):
    teacher = tmp_path / "private" / "teacher"
    args = _args(
        tmp_path,
        DistillKLConfig,
        teacher_model_name_or_path=str(teacher),
        model_init_kwargs={"token": "hf_secret", "dtype": "bfloat16"},
        hub_token="hf_secret",
    )
    shown = card_settings((args,))
    assert shown["teacher_model_name_or_path"] == "teacher"
    assert shown["model_init_kwargs"] == {"dtype": "bfloat16"}
    assert "secret" not in str(shown) and str(tmp_path) not in str(shown)


def test_budgets_of_loar_and_several_processes(tiny_model):
    torch.manual_seed(0)
    apply_loar(tiny_model, LoARConfig(budget=1.0, prompt_end_ids=[3]))
    trainer = SimpleNamespace(
        args=SimpleNamespace(world_size=2), model=tiny_model, accelerator=SimpleNamespace(unwrap_model=lambda m: m)
    )
    assert card_settings((), trainer) == {"world_size": 2, "loar_budgets": list(tiny_model.loar.budgets)}
