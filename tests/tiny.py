"""Tiny models, training settings and runs of the command line that many tests share.

Everything here is small enough for a second on one core, seeded, and made without a download.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).parents[1] / "recipes"
ON_TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


# Models

_WIDTHS = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "max_position_embeddings": 512}
# a decoder-only model of two layers, and a StepReasoner of one layer a stack
TINY_SIZES = {**_WIDTHS, "num_hidden_layers": 2}
TINY_STEP_SIZES = {**_WIDTHS, "num_encoder_layers": 1, "num_reasoner_layers": 1, "num_decoder_layers": 1}


def tiny_qwen2(tokenizer: Any, seed: int = 0, **overrides: Any) -> Any:
    """A Qwen2ForCausalLM of `TINY_SIZES` for this tokenizer, with random weights; keywords override config fields."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    fields = {
        **TINY_SIZES,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(Qwen2Config(**{**fields, **overrides}))


def tiny_step_reasoner(tokenizer: Any, seed: int = 0, **overrides: Any) -> Any:
    """A StepReasonerForCausalLM of `TINY_STEP_SIZES` for this tokenizer, with "=" as trigger; see `tiny_qwen2`."""
    import torch

    from hf_reason import StepReasonerConfig, StepReasonerForCausalLM

    fields = {
        **TINY_STEP_SIZES,
        "num_key_value_heads": 1,
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = StepReasonerConfig(**{**fields, **overrides}).set_tokens(tokenizer)
    torch.manual_seed(seed)
    return StepReasonerForCausalLM(config)


# Fields of a tiny config of each type, where they are not those of `_TINY_BY_NAME`.
_TINY_FIELDS: dict[str, dict[str, Any]] = {
    "falcon": {"alibi": False, "new_decoder_architecture": False, "multi_query": True},
    "falcon_alibi": {"alibi": True, "new_decoder_architecture": False, "multi_query": False},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 32, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 32, "query_pre_attn_scalar": 8},
    "gpt2": {"n_inner": 32},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 32},
    "gptj": {"rotary_dim": 4},
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 2.0, "attention_multiplier": 0.5},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    "mamba": {"state_size": 4, "time_step_rank": 2, "conv_kernel": 4},
    "mamba2": {"state_size": 4, "num_heads": 4, "head_dim": 8, "n_groups": 1, "chunk_size": 16},
    "mistral": {"sliding_window": 32},
    "mixtral": {"num_local_experts": 4},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16, "do_layer_norm_before": True},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "rwkv": {"attention_hidden_size": 16, "context_length": 512},
}
# The same size under the names that the configs of the different types have for it.
_TINY_BY_NAME = {
    **TINY_SIZES,
    "num_key_value_heads": 1,
    "num_experts_per_tok": 2,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 512,
    "d_model": 16,
    "n_layers": 2,
    "n_heads": 2,
    "max_seq_len": 512,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
    "dropout": 0.0,
    "tie_word_embeddings": False,
}


def tiny_model(tokenizer: Any, model_type: str, seed: int = 0, attention: str | None = None, **overrides: Any) -> Any:
    """A causal language model of two layers and width 16 of any type that transformers knows, without dropout.

    Args:
        tokenizer: Its vocabulary and its special tokens are the model's.
        model_type: As configs name it (`"gemma2"`), or `"falcon_alibi"`.
        seed: Of the random weights.
        attention: `attn_implementation`; default: the one that transformers chooses.
        **overrides: Fields of the config.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    name = model_type.removesuffix("_alibi")
    known = AutoConfig.for_model(name)
    fields |= {key: value for key, value in _TINY_BY_NAME.items() if hasattr(known, key)}
    config = AutoConfig.for_model(name, **{**fields, **_TINY_FIELDS.get(model_type, {}), **overrides})
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


def save_model(folder: Path, model: Any, tokenizer: Any) -> str:
    """Write both into the folder, as a finished training run does; returns the folder as text."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# Training

_TRAINING = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-2,
    "max_length": 512,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
}


def tiny_settings(output_dir: Path | str, **overrides: Any) -> dict[str, Any]:
    """Fields of a training config: two steps of four records in float32 on the CPU, nothing saved or reported."""
    return {**_TRAINING, "output_dir": str(output_dir), "save_strategy": "no", **overrides}


def _dataset(rows: Any) -> Any:
    from datasets import Dataset

    return Dataset.from_list(rows) if isinstance(rows, list) else rows


def tiny_trainer(
    trainer_class: type,
    config_class: type,
    output_dir: Path | str,
    model: Any,
    tokenizer: Any,
    train: Any,
    evaluation: Any = None,
    trainer_options: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A trainer with `tiny_settings` on a copy of the model (a path is passed on); rows become a `Dataset`."""
    return trainer_class(
        model=model if isinstance(model, str) else copy.deepcopy(model),
        args=config_class(**tiny_settings(output_dir, **settings)),
        train_dataset=_dataset(train),
        eval_dataset=_dataset(evaluation) if evaluation else None,
        processing_class=tokenizer,
        **(trainer_options or {}),
    )


def first_batch(trainer: Any, count: int | None = 4) -> dict[str, Any]:
    """The first `count` training examples (None: all), collated, where the model is."""
    rows = range(len(trainer.train_dataset) if count is None else count)
    return trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in rows]))


def training_loss(trainer: Any, batch: dict[str, Any]) -> Any:
    """The loss of this batch as a training step computes it, with its graph."""
    import torch

    items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    return trainer.compute_loss(trainer.model.train(), dict(batch), num_items_in_batch=items)


def evaluation_loss(trainer: Any, batch: dict[str, Any]) -> float:
    """The loss of this batch in evaluation mode."""
    import torch

    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, dict(batch)).item()


def assert_training_loss_is(trainer: Any, batch: dict[str, Any], expected: Any, reference: Any) -> None:
    """Value and gradients (to 1e-5) of a training step on `batch` are those of `expected`, the loss of `reference`."""
    import torch

    expected.backward()
    loss = training_loss(trainer, batch)
    loss.backward()
    assert abs(loss.item() - expected.item()) <= 1e-5
    for (name, left), right in zip(trainer.model.named_parameters(), reference.parameters(), strict=True):
        gradient = torch.zeros_like(left) if right.grad is None else right.grad
        assert torch.allclose(left.grad, gradient, atol=1e-5), name


def assert_accumulation_changes_nothing(make: Callable[..., Any], *figures: str) -> None:
    """`make(**settings)` trained on 8 accumulated batches of 1 ends as on 1 batch of 8: weights and logged figures."""
    import torch

    ends = []
    for size, accumulated in ((1, 8), (8, 1)):
        trainer = make(
            per_device_train_batch_size=size, gradient_accumulation_steps=accumulated, optim="sgd", max_grad_norm=0.0
        )
        trainer.train()
        state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        ends.append(state | {name: torch.tensor(logged(trainer, name)) for name in ("loss", *figures)})
    for name, value in ends[0].items():
        assert torch.allclose(value, ends[1][name], atol=1e-5), name


def train_and_resume(make: Callable[[], Any], at: int) -> tuple[Any, Any]:
    """Two trainers: one that ran to the end, and one that resumed from the first one's checkpoint of step `at`."""
    whole = make()
    whole.train()
    resumed = make()
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-{at}")
    return whole, resumed


def logged(trainer: Any, name: str = "loss") -> list[float]:
    """The values of a figure in the order in which the trainer logged them."""
    return [row[name] for row in trainer.state.log_history if name in row]


def logged_curve(output_dir: Path | str, name: str = "loss") -> dict[int, float]:
    """Step -> value of a figure in the state that a finished run has saved."""
    history = json.loads((Path(output_dir) / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row[name] for row in history if name in row}


def interrupt_at(monkeypatch: Any, trainer_class: Any, step: int) -> None:
    """Ctrl-C after `step` steps, in every training run while the patch holds."""
    train = trainer_class.training_step

    def interrupt(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    monkeypatch.setattr(trainer_class, "training_step", interrupt)


# Recipes


def assert_one_line_error(done: Any, message: str, code: int = 2) -> None:
    """A run ended with this exit code and with `message` in the last line it wrote, without a traceback."""
    assert done.returncode == code and "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]


_RECIPE = {
    **_TRAINING,
    "max_steps": 4,
    "save_strategy": "steps",
    "save_steps": 2,
    "dataloader_pin_memory": False,
    "max_test_records": 3,
    "eval_max_completion_length": 8,
}


def recipe_arguments(folder: Path, output_dir: Path | str, *extra: str, **settings: Any) -> list[str]:
    """`--config FILE --output_dir ...` of a run of four steps; `settings` are keys of the YAML that override."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**_RECIPE, **settings}, allow_unicode=True))
    return ["--config", str(config), "--output_dir", str(output_dir), *extra]


def run_python(*command: str, env: dict[str, str] | None = None, timeout: float = 200, **options: Any) -> Any:
    """`python *command` in a process of its own, its output captured as text; `env` is added to this process's."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=timeout,
        **options,
    )


def run_recipe(recipe: str, *arguments: str, launcher: Sequence[str] = (), **options: Any) -> Any:
    """A script of `recipes/` in a process of its own (or of a launcher's, such as `ON_TWO_PROCESSES`)."""
    return run_python(*launcher, str(RECIPES / recipe), *arguments, **options)


def kill_after_first_checkpoint(recipe: str, *arguments: str, output_dir: Path, within: float = 150) -> None:
    """Start the recipe, and kill it (SIGKILL) as soon as it has written a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, str(RECIPES / recipe), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + within
    while not list(output_dir.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (output_dir / "trainer_state.json").exists(), "the run was over before it could be killed"
