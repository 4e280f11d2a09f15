"""The files of an adapter: the hash of its base, what PEFT leaves out, and bringing back those of a checkpoint."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hf_reason._files import is_first_process, write_atomically

from .peft_adapters import check_base, write_base

# PEFT saves the virtual tokens that an encoder made (p-tuning, prefix projection) without the encoder that is trained.
ENCODER_FILE = "prompt_encoder.safetensors"


def adapter_folders(folder: str | os.PathLike[str], model: Any) -> Iterator[tuple[str, Path]]:
    """Name and place of each adapter of a model: PEFT puts those with another name than "default" into a subfolder."""
    for name in getattr(model, "peft_config", {}):
        yield name, Path(folder) if name == "default" else Path(folder, name)


def save_adapter_files(folder: str | os.PathLike[str], model: Any, base: dict[str, Any] | None) -> None:
    """Write what belongs beside each adapter that PEFT has saved.

    Args:
        folder: Where the model was saved.
        model: The model, unwrapped.
        base: The hash of the base's weights, if it is known.
    """
    encoders: Any = getattr(model, "prompt_encoder", None) or {}
    for name, place in adapter_folders(folder, model):
        if base is not None and place.is_dir():
            write_base(place, base)
        if name in encoders and is_first_process():
            from safetensors.torch import save_file

            state = {key: value.detach().cpu().contiguous() for key, value in encoders[name].state_dict().items()}
            write_atomically(place / ENCODER_FILE, lambda path, state=state: save_file(state, path))


def check_bases(folder: str | os.PathLike[str], model: Any, base: dict[str, Any] | None) -> None:
    """Refuse the adapters of a checkpoint that belong to another base than `base`.

    Raises:
        AdapterError: if one does.
    """
    for _, place in adapter_folders(folder, model):
        if base is not None:
            check_base(place, model, base)


def restore_encoders(folder: str | os.PathLike[str], model: Any) -> bool:
    """Bring back the encoders of virtual tokens that a checkpoint holds; whether there were any."""
    encoders: Any = getattr(model, "prompt_encoder", None) or {}
    files = {name: place / ENCODER_FILE for name, place in adapter_folders(folder, model) if name in encoders}
    found = {name: file for name, file in files.items() if file.is_file()}
    for name, file in found.items():
        from safetensors.torch import load_file

        encoders[name].load_state_dict(load_file(file))
    return bool(found)


def restore_adapters(folder: str | os.PathLike[str], model: Any) -> bool:
    """Bring back the adapters that a checkpoint holds, whatever they are called.

    Returns:
        Whether the model has adapters and the checkpoint holds one of them.
    """
    if not hasattr(model, "get_base_model"):
        return False
    from peft import load_peft_weights, set_peft_model_state_dict

    found = restore_encoders(folder, model)
    for name, place in adapter_folders(folder, model):
        if model.peft_config[name].is_prompt_learning and found:
            continue
        if any((place / file).is_file() for file in ("adapter_model.safetensors", "adapter_model.bin")):
            found = True
            set_peft_model_state_dict(model, load_peft_weights(str(place), device="cpu"), adapter_name=name)
    return found
