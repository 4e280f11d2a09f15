"""What the trainers write beside a model: which base an adapter belongs to, the arguments, and the model card."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINING_ARGS_NAME

from hf_reason._files import write_atomically
from hf_reason._private import is_secret, public
from hf_reason.models.peft_adapters import base_fingerprint, write_base


def save_base(folder: str | os.PathLike[str], model: Any, base: dict[str, Any] | None) -> dict[str, Any] | None:
    """Keep the hash of the base's weights beside an adapter; returns it, `None` for a model without adapters.

    Args:
        folder: The adapter's.
        model: The model, unwrapped.
        base: The hash, if it is known from an earlier call: the base does not move.
    """
    if not hasattr(model, "peft_config"):
        return base
    base = base or base_fingerprint(model)
    write_base(folder, base)
    return base


def write_card(folder: str | os.PathLike[str], card: str) -> None:
    """Write the model card."""
    write_atomically(Path(folder, "README.md"), card)


def save_public_arguments(folder: str | os.PathLike[str], args: Any) -> None:
    """Write `training_args.bin` again, without secrets and paths: the Trainer pushes it, and reads it nowhere."""
    if not args.should_save:
        return  # the other processes may be ahead of the first, which makes the folder
    shown = copy.copy(args)
    for name, value in vars(args).items():
        if is_secret(name):
            setattr(shown, name, None)
        elif isinstance(value, str | list | dict):
            setattr(shown, name, public(value))
    write_atomically(Path(folder, TRAINING_ARGS_NAME), lambda path: torch.save(shown, path))
