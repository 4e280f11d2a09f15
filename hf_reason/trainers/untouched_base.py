"""Which adapters change their base, which cannot be brought back, and which of them a training run refuses."""

from typing import Any

from hf_reason.models.peft_adapters import changes_base

# Starts of a LoRA that move a part of the base into the adapter which PEFT does not find again when the adapter is
# loaded: it is drawn at random, or computed from data that are not saved.
_LOST_PARTS = ("pissa_niter", "corda", "loftq", "lora_ga")
# Methods that read the task of each example, which the trainers do not pass, or the logits, which are never built.
_NEED_TASKS = ("POLY", "MULTITASK_PROMPT_TUNING")
_NEED_LOGITS = ("CPT",)
# Hides the model's forward, into which the fused loss is put.
_HIDE_FORWARD = ("ADAPTION_PROMPT",)


def moves_base(config: Any) -> str | None:
    """The setting of a `PeftConfig` by which the base, without the adapter, is no longer what it was.

    Returns:
        Such as `"bias='all'"`; `None` if there is none.
    """
    for name in ("modules_to_save", "trainable_token_indices"):
        if getattr(config, name, None):
            return f"{name}={getattr(config, name)}"
    return changes_base(config)


def check_adapter(config: Any, args: Any) -> None:
    """Refuse an adapter whose training could not be used afterwards, before anything is trained.

    Args:
        config: The `PeftConfig`.
        args: The training configuration.

    Raises:
        ValueError: if the adapter could not be loaded again as it was trained, or cannot be trained by these settings.
    """
    kind = str(getattr(config.peft_type, "value", config.peft_type))
    start = getattr(config, "init_lora_weights", None)
    if isinstance(start, str) and start.lower().startswith(_LOST_PARTS):
        raise ValueError(
            f"init_lora_weights={start!r} moves a part of the base's weights into the adapter, and "
            "that part is not found again when the saved adapter is loaded: the model would be another one. Use "
            "'pissa' or 'olora', which are computed from the base alone, or 'eva' and 'orthogonal', which leave it "
            "as it is."
        )
    if kind in _NEED_TASKS:
        raise ValueError(f"{kind} reads task_ids, which the trainer does not pass. Use another PEFT method.")
    if kind in _NEED_LOGITS:
        raise ValueError(
            f"{kind} computes its own loss from the logits, which are not built. Use another PEFT method."
        )
    if kind in _HIDE_FORWARD:
        raise ValueError(
            f"{kind} replaces the model's forward, which the fused loss needs (in trl.SFTTrainer, too). Use another "
            "PEFT method."
        )
    if not getattr(config, "is_prompt_learning", False):
        return
    names = [name for name in ("packing", "padding_free") if getattr(args, name, False)]
    names += ["mixup_alpha"] if getattr(args, "mixup_alpha", 0) else []
    if names:
        raise ValueError(f"{kind} puts virtual tokens before each row, which {' and '.join(names)} cannot place.")
