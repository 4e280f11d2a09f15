"""What the trainers write beside a model: the arguments, and the model card."""

import copy
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason._private import is_secret, public


def write_card(folder: str | os.PathLike[str], card: str) -> None:
    """Write the model card."""
    write_atomically(Path(folder, "README.md"), card)


def save_public_arguments(folder: str | os.PathLike[str], args: Any) -> None:
    """Write `training_args.bin` again, without secrets and paths: the Trainer pushes it, and reads it nowhere."""
    if args.should_save:  # the other processes may be ahead of the first, which makes the folder
        write_atomically(Path(folder, TRAINING_ARGS_NAME), lambda path: torch.save(_public(args), path))


@contextmanager
def public_bases(folder: str | os.PathLike[str]) -> Iterator[bool]:
    """While a folder is uploaded: a base of this machine stands in `adapter_config.json` by its last part only, and so
    does the best checkpoint in `trainer_state.json`.

    Afterwards the path is there again, by which the adapter is loaded on this machine. Yields whether there was one.
    """
    before = {}
    for name, key in (
        ("adapter_config.json", "base_model_name_or_path"),
        (TRAINER_STATE_NAME, "best_model_checkpoint"),
    ):
        for path in Path(folder).rglob(name):
            content = json.loads(path.read_text(encoding="utf-8"))
            if public(content.get(key)) != content.get(key):
                before[path] = path.read_bytes()
                write_json_atomically(path, {**content, key: public(content[key])})
    try:
        yield bool(before)
    finally:
        for path, content in before.items():
            write_atomically(path, content)


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
