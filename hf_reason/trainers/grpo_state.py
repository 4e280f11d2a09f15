"""What a checkpoint of GRPO keeps beside the Trainer's: completions that are still to be trained on, and counts."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hf_reason._files import write_json_atomically

STATE_FILE = "grpo_state.json"
_NUMBER = "step"


def save_generated(folder: str | os.PathLike[str], process: int, batches: list[dict[str, Any]], step: int) -> None:
    """Write the buffered completions of a process, of which some updates are still to come.

    Batches with something else than tensors (images) are not kept: a resumed run writes completions anew.
    """
    path = _place(folder, process)
    tensors = {f"{number}.{name}": value for number, batch in enumerate(batches) for name, value in batch.items()}
    if all(isinstance(value, torch.Tensor) for value in tensors.values()):
        whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        save_file({**whole, _NUMBER: torch.tensor(step)}, path)


def load_generated(
    folder: str | os.PathLike[str], process: int, device: torch.device
) -> tuple[list[dict[str, Any]], int] | None:
    """The buffered completions of a process and the number of batches it has trained on; `None` if there are none."""
    path = _place(folder, process)
    if not path.is_file():
        return None
    batches: dict[int, dict[str, Any]] = {}
    step = 0
    for name, value in load_file(path).items():
        number, _, key = name.partition(".")
        if name == _NUMBER:
            step = int(value)
        else:
            batches.setdefault(int(number), {})[key] = value.to(device)
    return [batches[number] for number in sorted(batches)], step


def _place(folder: str | os.PathLike[str], process: int) -> Path:
    return Path(folder, f"generated_{process}.safetensors")


def save_counts(folder: str | os.PathLike[str], counts: dict[str, Any]) -> None:
    """Write the counts of a run."""
    write_json_atomically(Path(folder, STATE_FILE), counts)


def load_counts(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The counts of a run; empty for a checkpoint of TRL's own trainer."""
    path = Path(folder, STATE_FILE)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
