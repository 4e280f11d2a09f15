"""The files of an adapter: the hash of its base, what PEFT leaves out, and bringing back those of a checkpoint."""

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from hf_reason._files import is_first_process, write_atomically
from hf_reason._private import is_place, public

from .peft_adapters import AdapterError, check_base, write_base

# What is trained, where PEFT saves what it comes to: the virtual tokens that an encoder makes (p-tuning, prefix
# projection), and the ranks that AdaLoRA has left.
TRAINED_FILE = "trained_weights.safetensors"
CONFIG_FILE = "adapter_config.json"

# What may differ between a checkpoint and the run that resumes it: names, versions, and what only the start or the
# training reads.
_FREE = re.compile(
    r"^(inference_mode|base_model_.*|revision|task_type|auto_mapping|peft_version)$|init|dropout|_config$"
)
_METADATA = re.compile(r"---\n(?P<yaml>.*?\n)---\n", re.DOTALL)
_SCHEDULE = ("total_step", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "rank_pattern", "r")


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
    for name, place in adapter_folders(folder, model):
        if base is not None and place.is_dir():
            write_base(place, base)
        if is_first_process():
            _public_card(place / "README.md", model.peft_config[name].base_model_name_or_path)
        if is_first_process() and (trained := _trained(model, name)):
            from safetensors.torch import save_file

            state = {key: value.detach().cpu().contiguous() for key, value in trained.items()}
            write_atomically(place / TRAINED_FILE, partial(save_file, state))


def _public_card(card: Path, base: str | None) -> None:
    """Shorten the path of a local base in the card that PEFT has written: it is pushed with a checkpoint."""
    if not (base and is_place(base) and card.is_file()):
        return
    text = card.read_text(encoding="utf-8")
    found = _METADATA.match(text)
    if found:  # read, since YAML breaks a path with blanks into lines
        metadata = _renamed(yaml.safe_load(found["yaml"]), base, public(base))
        written = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
        text = f"---\n{written}---\n{text[found.end() :]}"
    text = text.replace(base, public(base))
    write_atomically(card, lambda path: path.write_text(text, encoding="utf-8"))


def _renamed(value: Any, old: str, new: str) -> Any:
    """A value of YAML with another text in place of `old`, however deep it is."""
    if isinstance(value, dict):
        return {key: _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


def _trained(model: Any, name: str) -> dict[str, Any]:
    """The weights of an adapter that PEFT does not save as they are."""
    encoders: Any = getattr(model, "prompt_encoder", None) or {}
    if name in encoders:
        return dict(encoders[name].named_parameters())
    if str(getattr(model.peft_config[name].peft_type, "value", "")) != "ADALORA":
        return {}
    return {key: value for key, value in model.named_parameters() if ".lora_" in key and key.endswith(f".{name}")}


def check_bases(folder: str | os.PathLike[str], model: Any, base: dict[str, Any] | None) -> None:
    """Refuse the adapters of a checkpoint that belong to another base than `base`.

    Raises:
        AdapterError: if one does.
    """
    for _, place in adapter_folders(folder, model):
        if base is not None:
            check_base(place, model, base)


def check_same_adapters(folder: str | os.PathLike[str], model: Any) -> None:
    """Refuse to resume a checkpoint whose adapters are others than those of the model.

    Weights that are missing would stay as they are, and another rank or alpha would make another model.

    Raises:
        AdapterError: if the model has an adapter and the checkpoint none, or the reverse, or their settings differ.
    """
    carried = dict(adapter_folders(folder, model))
    if not carried and Path(folder, CONFIG_FILE).is_file():
        raise AdapterError(
            f"{folder} is a checkpoint of an adapter, and this run trains none. Set the same peft_config."
        )
    for name, place in carried.items():
        if not (place / CONFIG_FILE).is_file():
            if any(Path(folder).glob("model*.safetensors")):
                raise AdapterError(
                    f"{folder} is a checkpoint without the adapter {name!r}, which this run trains. Leave peft_config "
                    "out, or begin anew (on that checkpoint as the model, if it is meant as the base)."
                )
            continue
        saved, now = _shape(json.loads((place / CONFIG_FILE).read_text())), _shape(model.peft_config[name].to_dict())
        changed = [
            f"{key} {saved[key]} -> {now[key]}" for key in sorted(saved.keys() & now.keys()) if saved[key] != now[key]
        ]
        if changed:
            raise AdapterError(
                f"{place} holds an adapter with other settings than this run's: {', '.join(changed)}. Resume with the "
                "same peft_config, or begin anew."
            )


def _shape(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of an adapter that say which function its weights are, in one form."""
    adalora = getattr(config["peft_type"], "value", config["peft_type"]) == "ADALORA"
    kept = {key: value for key, value in config.items() if not (_FREE.search(key) or (adalora and key in _SCHEDULE))}
    return {
        key: sorted(map(str, value)) if isinstance(value, set | list | tuple) else getattr(value, "value", value)
        for key, value in kept.items()
    }


def restore_trained(folder: str | os.PathLike[str], model: Any) -> bool:
    """Bring back what is in the `TRAINED_FILE` of the adapters in a folder; whether there was one."""
    found = False
    for name, place in adapter_folders(folder, model):
        trained = _trained(model, name)
        if not trained or not (place / TRAINED_FILE).is_file():
            continue
        from peft import PeftConfig
        from safetensors.torch import load_file

        found, saved = True, load_file(place / TRAINED_FILE)
        with torch.no_grad():
            for key, value in trained.items():
                value.copy_(saved[key])
        config: Any = model.peft_config[name]
        if hasattr(config, "rank_pattern"):
            config.rank_pattern = PeftConfig.from_pretrained(str(place)).rank_pattern
    return found


def restore_adapters(folder: str | os.PathLike[str], model: Any) -> bool:
    """Bring back the adapters that a checkpoint holds, whatever they are called.

    Returns:
        Whether the model has adapters and the checkpoint holds one of them.
    """
    if not hasattr(model, "get_base_model"):
        return False
    from peft import load_peft_weights, set_peft_model_state_dict

    found = restore_trained(folder, model)
    for name, place in adapter_folders(folder, model):
        if _trained(model, name) and found:
            continue
        if any((place / file).is_file() for file in ("adapter_model.safetensors", "adapter_model.bin")):
            found = True
            set_peft_model_state_dict(model, load_peft_weights(str(place), device="cpu"), adapter_name=name)
    return found
