"""The files of a LoAR: `loar_config.json` and one small file of weights, in a folder or on the Hub."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from hf_reason._files import write_atomically

CONFIG_FILE = "loar_config.json"
WEIGHTS_FILE = "loar.safetensors"


def find_file(name: str, file: str, revision: str | None = None) -> str | None:
    """Path of a file in a folder, or in a model on the Hub (downloaded); `None` if it is not there."""
    from transformers.utils import cached_file

    if os.path.isdir(name):
        path = Path(name, file)
        return str(path) if path.is_file() else None
    return cached_file(  # type: ignore[no-any-return]
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )


def has_loar(name: str, revision: str | None = None) -> bool:
    """Whether a folder or a model on the Hub holds a LoAR."""
    return find_file(name, CONFIG_FILE, revision) is not None


def write_weights(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    budgets: Sequence[int],
    window_layers: Sequence[int],
) -> None:
    """Write `loar.safetensors`; the folder is made."""
    from safetensors.torch import save

    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    settings = {"budgets": torch.tensor(budgets), "window_layers": torch.tensor(window_layers, dtype=torch.long)}
    write_atomically(where / WEIGHTS_FILE, save({**tensors, **settings}))


def read_weights(
    path: str | os.PathLike[str], units: int, grain: str
) -> tuple[dict[str, torch.Tensor], list[int], list[int]]:
    """Tensors, budgets and window layers of a `loar.safetensors`.

    Args:
        path: The file.
        units: Groups or heads of a layer of the model that are routed.
        grain: Which of both, for the error.

    Raises:
        ValueError: if a number is not finite, or one of them does not exist.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{key} in {path} holds numbers that are not finite.")
    if "routers.shared" in tensors and not bool((tensors["routers.shared"] < units).all()):
        raise ValueError(f"routers.shared in {path} names {grain} that the model does not have.")
    budgets, windows = tensors.pop("budgets").tolist(), tensors.pop("window_layers").tolist()
    return tensors, budgets, windows
