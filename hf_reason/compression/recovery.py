"""Win back what a compression lost: the whole model teaches the compressed one."""

import os
from collections.abc import Mapping
from typing import Any

from hf_reason.trainers import DistillKLConfig, DistillKLTrainer
from hf_reason.trainers.resuming import train_or_resume

from .kept_zeros import KeepZeros


def recover(
    model: Any,
    teacher_model: Any,
    tokenizer: Any,
    train_dataset: Any,
    *,
    output_dir: str | os.PathLike[str],
    max_steps: int,
    keep_zeros: str | None = None,
    peft_config: Any = None,
    instructions: Mapping[str, str] | None = None,
    **settings: Any,
) -> Any:
    """Train a compressed model on the distributions of the model that it was made of; resumes from its checkpoints.

    The loss is the forward KL alone, unless `settings` say otherwise.

    Args:
        model: The compressed model; it is trained in place.
        teacher_model: The model before the compression, or whatever `DistillKLTrainer` accepts as teacher.
        tokenizer: Of both.
        train_dataset: Records.
        output_dir: For checkpoints, four of them over the run, the newest kept.
        max_steps: Optimizer steps.
        keep_zeros: `attention`, `feed_forward` or `all`: the pruned weights that stay zero (`KeepZeros`).
        peft_config: Train a LoRA on top in place of the weights (quantised models).
        instructions: Template of each domain.
        **settings: Further arguments of `DistillKLConfig`: `learning_rate`, `per_device_train_batch_size`, ...

    Returns:
        The model, unwrapped, with its LoRA if there is one.
    """
    defaults: dict[str, Any] = {
        "ce_weight": 0.0,
        "kl_weight": 1.0,
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "report_to": "none",
        "eval_strategy": "no",
        "save_strategy": "steps",
        "save_steps": max(1, max_steps // 4),
        "save_total_limit": 1,
        "logging_steps": max(1, max_steps // 20),
    }
    args = DistillKLConfig(output_dir=str(output_dir), max_steps=max_steps, **{**defaults, **settings})
    trainer = DistillKLTrainer(
        model,
        args,
        train_dataset=train_dataset,
        processing_class=tokenizer,
        teacher_model=teacher_model,
        peft_config=peft_config,
        instructions=instructions,
        callbacks=[KeepZeros(keep_zeros)] if keep_zeros else None,
    )
    train_or_resume(trainer)
    return trainer.accelerator.unwrap_model(trainer.model)
