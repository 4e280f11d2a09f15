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
    if args.should_save:  # the other processes may be ahead of the first, which makes the folder
        write_atomically(Path(folder, TRAINING_ARGS_NAME), lambda path: torch.save(_public(args), path))


def shown_arguments(args: Any) -> Any:
    """The same arguments, which are pickled without secrets and paths."""
    kind = type(args)
    shown = copy.copy(args)
    shown.__class__ = type(kind.__name__, (kind,), {"__reduce_ex__": lambda self, _: (copy.copy, (_public(args),))})
    return shown


def _public(args: Any) -> Any:
    """A copy of the arguments without secrets and paths."""
    shown = copy.copy(args)
    for name, value in vars(args).items():
        if is_secret(name):
            setattr(shown, name, None)
        elif isinstance(value, str | list | dict):
            setattr(shown, name, public(value))
    return shown
