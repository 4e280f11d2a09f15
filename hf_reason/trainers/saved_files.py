"""What the trainers write beside a model: the arguments, and the model card."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINING_ARGS_NAME

from hf_reason._files import write_atomically
from hf_reason._private import is_secret, public


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
