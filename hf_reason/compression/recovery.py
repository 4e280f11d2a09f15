"""Win back what a compression lost: the whole model teaches the compressed one."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hf_reason.trainers import DistillKLConfig, DistillKLTrainer
from hf_reason.trainers.resuming import train_or_resume

from .kept_zeros import KeepZeros

logger = logging.getLogger(__name__)


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
    report: Callable[[float, float], None] | None = None,
    **settings: Any,
) -> Any:
    """Train a compressed model on the distributions of the model that it was made of; resumes from its checkpoints.

    The loss is the forward KL alone, unless `settings` say otherwise. Weights in half precision are trained in
    float32, since such small steps are lost in their rounding, and come back in their own type.

    A tenth of the records, at most 32, is held out. If the divergence on them is higher at the end than at the start,
    as it is after too few steps or too large ones, the model comes back as it was, with a warning.

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
        report: Called at the end with the divergence on the held-out records before and after, in nats a token.
        **settings: Further arguments of `DistillKLConfig`: `learning_rate`, `per_device_train_batch_size`, ...

    Returns:
        The model, unwrapped, with its LoRA if there is one.
    """
    defaults: dict[str, Any] = {
        "ce_weight": 0.0,
        "kl_weight": 1.0,
        "learning_rate": 1e-6,
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
    types = {name: value.dtype for name, value in model.named_parameters()}
    if peft_config is None:
        model.float()
    train, held = _held_out(train_dataset, args.seed)
    trainer = DistillKLTrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=held,
        processing_class=tokenizer,
        teacher_model=teacher_model,
        peft_config=peft_config,
        instructions=instructions,
        callbacks=[KeepZeros(keep_zeros)] if keep_zeros else None,
    )
    start = _Start(trainer, types) if held is not None else None
    train_or_resume(trainer)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if start is not None:
        loss = start.restore_if_better(trainer)
        if report is not None:
            report(start.loss, loss)
    if peft_config is None:
        for name, value in trained.named_parameters():
            value.data = value.data.to(types[name])
    return trained


def _held_out(records: Any, seed: int) -> tuple[Any, Any]:
    """Records to train on, and those that judge; `None` for the latter where there are too few."""
    count = min(len(records) // 10, 32)
    if not count:
        return records, None
    parts = records.train_test_split(test_size=count, seed=seed)
    return parts["train"], parts["test"]


class _Start:
    """The divergence and the trained weights before the recovery."""

    def __init__(self, trainer: Any, types: Mapping[str, Any]) -> None:
        self.loss = trainer.evaluate()["eval_loss"]
        # in their own type, which they come back in
        self.weights = {
            name: value.detach().to(types.get(name, value.dtype), copy=True)
            for name, value in trainer.accelerator.unwrap_model(trainer.model).named_parameters()
            if value.requires_grad
        }

    def restore_if_better(self, trainer: Any) -> float:
        """Put the weights back if they were better; the divergence that the training led to."""
        loss: float = trainer.evaluate()["eval_loss"]
        if loss <= self.loss:
            return loss
        logger.warning(
            "The recovery made the model worse and is not kept: a KL of %.3g on held-out records, %.3g before. Use a "
            "lower learning rate or more steps.",
            loss,
            self.loss,
        )
        model = trainer.accelerator.unwrap_model(trainer.model)
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name in self.weights:
                    value.copy_(self.weights[name])
        return loss
