"""A model that was saved as an adapter: where it is, where its base is, and both put together by PEFT.

transformers' own `from_pretrained` also accepts an adapter's folder, but leaves out weights of some methods (DoRA's
magnitudes), refuses others (prompt tuning, VeRA), and does not know which base the adapter was trained on.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from .adapter_files import TRAINED_FILE, restore_adapters, restore_trained
from .base_weights import base_fingerprint
from .peft_adapters import AdapterError, check_base, remember_base

BASE_FOLDER = "base"
_CONFIG = "adapter_config.json"


def adapter_place(name: str, revision: str | None = None) -> str | None:
    """Where the adapter of a folder or Hub name is; `None` for a model without one.

    PEFT saves an adapter with another name than "default" in a subfolder; a folder with one such adapter and nothing
    else stands for it.

    Raises:
        AdapterError: if the folder holds several adapters.
    """
    from transformers.utils.peft_utils import find_adapter_config_file

    folder = Path(name)
    if not folder.is_dir():
        return name if find_adapter_config_file(name, revision=revision or "main") is not None else None
    if (folder / _CONFIG).is_file():
        return name
    if (folder / "config.json").is_file():
        return None
    found = [path.parent.name for path in sorted(folder.glob(f"*/{_CONFIG}")) if "checkpoint-" not in path.parent.name]
    if len(found) > 1:
        raise AdapterError(f"{name} holds the adapters {', '.join(found)}. Name one of these folders.")
    return str(folder / found[0]) if found else None


def base_place(adapter: str, revision: str | None = None) -> str:
    """The base model of an adapter: what its config names, wherever the two are now.

    A relative path counts from this folder, else from the adapter's own folder or one above it. A base that came with
    its adapter (in its folder `base`) is used if the named one is not there.

    Raises:
        AdapterError: if the config names none.
    """
    base = _named_base(adapter, revision)
    if not base:
        raise AdapterError(f"{adapter}/{_CONFIG} names no base model. Write it: base_model_name_or_path.")
    if os.path.isdir(base):
        return str(base)
    folder = Path(adapter).absolute()
    tries = [Path(adapter, BASE_FOLDER)]
    if not os.path.isabs(base):
        tries += [above / base for above in (folder, *folder.parents)]
    return next((str(place) for place in tries if (place / "config.json").is_file()), str(base))


def _named_base(adapter: str, revision: str | None) -> str | None:
    if os.path.isdir(adapter):
        content: Any = json.loads(Path(adapter, _CONFIG).read_text(encoding="utf-8"))
        return content.get("base_model_name_or_path") if isinstance(content, dict) else None
    from peft import PeftConfig

    return PeftConfig.from_pretrained(adapter, revision=revision).base_model_name_or_path


def load_adapted(
    adapter: str, load: Callable[[str], Any], *, trainable: bool = False, revision: str | None = None
) -> Any:
    """A base model with an adapter on it.

    Args:
        adapter: Folder or Hub name of the adapter.
        load: Loads the base of this name.
        trainable: Whether the adapter is trained further.
        revision: Of the adapter on the Hub.

    Returns:
        A `PeftModel`, called by the name of its adapter in every message.

    Raises:
        AdapterError: if the base is another one, or the adapter does not fit it.
    """
    from peft import PeftModel

    adapted: Any
    base = base_place(adapter, revision)
    model = load(base)
    fingerprint = base_fingerprint(model)
    check_base(adapter, model, fingerprint, revision)
    try:
        adapted = _virtual_tokens(adapter, model, revision) if trainable else None
        if adapted is None:
            adapted = PeftModel.from_pretrained(model, adapter, is_trainable=trainable, revision=revision)
    except (AdapterError, OSError, UnpicklingError, ImportError):
        raise
    except Exception as error:  # the config is data, of which PEFT checks little
        what = " ".join(str(error).split())[:300]
        if not isinstance(error, RuntimeError):
            raise AdapterError(
                f"The adapter {adapter} cannot be loaded ({type(error).__name__}: {what}): a value in its {_CONFIG} "
                "is wrong, or of another version of PEFT. Restore the file, or train the adapter again."
            ) from error
        raise AdapterError(
            f"The adapter {adapter} does not fit {base}, which it names as its base: {what}. Put the base that it was "
            f"trained on back in that place, or correct base_model_name_or_path in its {_CONFIG}."
        ) from error
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base  # where it was found, which may not be where it was
    remember_base(adapted, fingerprint)
    return adapted


def _virtual_tokens(adapter: str, model: Any, revision: str | None) -> Any:
    """The base with virtual tokens to train further, which PEFT loads for inference only; `None` for other methods."""
    from peft import PeftConfig, get_peft_model

    config = PeftConfig.from_pretrained(adapter, revision=revision)
    if not config.is_prompt_learning:
        return None
    config.inference_mode = False
    adapted = get_peft_model(model, config)
    encoder: Any = adapted.prompt_encoder["default"]
    if len(list(encoder.parameters())) > 1 and not restore_trained(adapter, adapted):
        raise AdapterError(
            f"{adapter} holds its virtual tokens without the encoder that makes them ({TRAINED_FILE}), so they cannot "
            "be trained further. Train a new adapter."
        )
    restore_adapters(adapter, adapted)
    return adapted
