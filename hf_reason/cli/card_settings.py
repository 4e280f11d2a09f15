"""The settings that a model card shows: what was set and differs from its default, without places and secrets."""

from collections.abc import Iterable
from dataclasses import MISSING, fields
from enum import Enum
from typing import Any

from hf_reason._private import is_secret, public

from .resume import MAY_CHANGE

# How long a run trains may change when it is resumed, and belongs on the card all the same.
_LENGTH = {"max_steps", "num_train_epochs"}
# transformers and TRL fill these in from the machine or from each other; the base model has a place of its own.
_DERIVED = {
    "accelerator_config",
    "activation_checkpointing",
    "deepspeed",
    "fsdp",
    "fsdp_config",
    "gradient_checkpointing",
    "hub_model_id",
    "model_name_or_path",
    "model_revision",
    "trust_remote_code",
    "use_peft",
}
# A LoRA without these says nothing, be they the defaults or not.
_LORA_ALWAYS = ("lora_r", "lora_alpha")


def card_settings(groups: Iterable[Any], trainer: Any = None) -> dict[str, Any]:
    """Name -> value of the settings to show.

    A field of the project's own classes says by its metadata whether the card shows it; one of TRL's or transformers'
    is shown if it shapes the training.

    Args:
        groups: The argument classes of the run.
        trainer: After the training: for the budgets of LoAR and the number of processes.
    """
    shown: dict[str, Any] = {}
    for group in groups:
        lora = getattr(group, "use_peft", None)
        for item in fields(group):
            value = getattr(group, item.name, None)
            if lora is False and "lora" in item.name:
                continue
            always = lora and item.name in _LORA_ALWAYS
            if always or (_belongs(item) and _is_set(value, _default(item))):
                shown[item.name] = _shown(value)
    return shown | (_of_trainer(trainer) if trainer is not None else {})


def _belongs(item: Any) -> bool:
    if is_secret(item.name) or not item.init:
        return False
    shapes = item.name not in MAY_CHANGE | _DERIVED or item.name in _LENGTH
    return bool(item.metadata.get("card", shapes))


def _default(item: Any) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _is_set(value: Any, default: Any) -> bool:
    # transformers turns a default of None into False where the machine lacks something (bf16)
    return value != default and value not in (None, [], {}, "") and not (default is None and value is False)


def _shown(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else public(value)


def _of_trainer(trainer: Any) -> dict[str, Any]:
    from hf_reason.models.loar.model import loar_of

    found: dict[str, Any] = {"world_size": trainer.args.world_size} if trainer.args.world_size > 1 else {}
    loar = loar_of(trainer.accelerator.unwrap_model(trainer.model))
    return found if loar is None else found | {"loar_budgets": list(loar.budgets)}
