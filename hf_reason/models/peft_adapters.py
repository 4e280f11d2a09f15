"""Several adapters on one base model: which base each belongs to, loading them, and switching at run time."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from hf_reason._files import is_first_process, write_json_atomically

from .base_weights import base_fingerprint, same_base

if TYPE_CHECKING:
    from peft import PeftModel

BASE_FILE = "base_model.json"

# These starts of a LoRA put a part of the base's weights into the adapter when it is made.
_SPLIT_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# The base's fingerprint of models whose adapters (PiSSA, OLoRA) have changed it, taken before.
_known_bases: "WeakKeyDictionary[Any, dict[str, Any]]" = WeakKeyDictionary()


class AdapterError(ValueError):
    """An adapter that cannot be used. The message says why, and what to do."""


def splits_base(config: Any) -> str | None:
    """The setting of a `PeftConfig` that changes the base as soon as the adapter is on it; `None` if there is none."""
    if getattr(config, "layer_replication", None):
        return f"layer_replication={config.layer_replication}"
    start = getattr(config, "init_lora_weights", None)
    splits = isinstance(start, str) and start.lower().startswith(_SPLIT_THE_BASE)
    return f"init_lora_weights={start!r}" if splits else None


def changes_base(config: Any) -> str | None:
    """The setting by which the base is another one while an adapter is loaded, switched off or not."""
    bias = getattr(config, "bias", "none")
    return splits_base(config) or (f"bias={bias!r}" if isinstance(bias, str) and bias != "none" else None)


def remember_base(model: Any, fingerprint: Mapping[str, Any]) -> None:
    """Note which base the adapters of a model belong to, for adapters that change it when they are loaded."""
    _known_bases[model] = dict(fingerprint)


def known_base(model: Any) -> dict[str, Any] | None:
    """What `remember_base` has noted of this model."""
    return _known_bases.get(model)


def write_base(folder: str | os.PathLike[str], fingerprint: Mapping[str, Any]) -> None:
    """Keep the fingerprint beside an adapter. A path of this machine is shortened to its last part.

    Of several processes the first writes.
    """
    if not is_first_process():
        return
    name = str(fingerprint["name_or_path"])
    public = {**fingerprint, "name_or_path": Path(name).name if Path(name).exists() else name}
    write_json_atomically(Path(folder, BASE_FILE), public)


def check_base(
    folder: str | os.PathLike[str],
    model: Any,
    fingerprint: Mapping[str, Any] | None = None,
    revision: str | None = None,
) -> None:
    """Refuse an adapter that was trained on other weights than the model has.

    An adapter without a fingerprint (made by another tool) is left to PEFT's own check of the shapes. The hashes are
    compared where both models hold the same kind of weights, or one the other's in more bits; else (4 bit and
    bfloat16) only the model type is.

    Args:
        folder: The adapter's, or its name on the Hub.
        model: The model it is meant for.
        fingerprint: Of that model, if it is known.
        revision: Of the adapter on the Hub.

    Raises:
        AdapterError: if the base is another one.
    """
    path = _base_file(folder, revision)
    if path is None:
        return
    here = fingerprint or base_fingerprint(model)
    try:
        trained = json.loads(path.read_text(encoding="utf-8"))
        same, digest, name = same_base(trained, here), trained["hash"], trained["name_or_path"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"{path} cannot be read ({error}). Restore it, or remove it to load the adapter unchecked."
        ) from error
    if not same:
        raise AdapterError(
            f"The adapter {folder} belongs to another base model: {name!r} ({trained['model_type']}, {digest}); "
            f"this is {here['name_or_path']!r} ({here['model_type']}, {here['hash']}). Load that base, or train "
            "an adapter on this one."
        )


def _base_file(folder: str | os.PathLike[str], revision: str | None) -> Path | None:
    path = Path(folder, BASE_FILE)
    if path.is_file():
        return path
    name = os.fspath(folder)
    if os.path.isdir(name) or name.startswith((".", "/", "~")):
        return None
    from transformers.utils import cached_file

    try:
        found = cached_file(name, BASE_FILE, revision=revision, _raise_exceptions_for_missing_entries=False)
    except OSError:  # PEFT says what is wrong with the name
        return None
    return Path(found) if found else None


def load_adapters(model: Any, adapters: Mapping[str, str | os.PathLike[str]]) -> "PeftModel":
    """A model with several adapters, the first of them active; `model.set_adapter(name)` changes it.

    Args:
        model: The base model, or a `PeftModel` that gets more adapters.
        adapters: Name (one a domain, for instance) -> folder, or name on the Hub.

    Raises:
        AdapterError: if there are none, a folder is missing, an adapter belongs to another base, or a name is taken.
    """
    from peft import PeftModel

    if not adapters:
        raise AdapterError("There is no adapter to load. Give name -> folder.")
    fingerprint = known_base(model) or base_fingerprint(model)
    for name, folder in adapters.items():
        place = os.fspath(folder)
        if place.startswith((".", "/", "~")) and not Path(place, "adapter_config.json").is_file():
            raise AdapterError(f"The adapter {name!r}: {place} holds no adapter_config.json. Check the folder.")
        check_base(place, model, fingerprint)
        if name in getattr(model, "peft_config", {}):
            raise AdapterError(f"There is an adapter {name!r} already. Choose another name.")
        try:
            if isinstance(model, PeftModel):
                model.load_adapter(place, adapter_name=name)
            else:
                model = PeftModel.from_pretrained(model, place, adapter_name=name)
        except (OSError, UnpicklingError, ImportError):
            raise
        except Exception as error:  # the config is data, of which PEFT checks little
            what = " ".join(str(error).split())[:300]
            beside = [other for other in getattr(model, "peft_config", {}) if other != name]
            where = f" beside {', '.join(map(repr, beside))}" if beside else ""
            raise AdapterError(f"The adapter {name!r} ({place}) does not fit this model{where}: {what}") from error
        _check_alone(model)
    remember_base(model, fingerprint)
    model.set_adapter(next(iter(adapters)))
    return model  # type: ignore[no-any-return]


def _check_alone(model: Any) -> None:
    for config in model.peft_config.values():
        setting = changes_base(config)
        if setting and len(model.peft_config) > 1:
            raise AdapterError(
                f"An adapter with {setting} changes weights of the base itself, so it must be the only adapter of a "
                "model: the others would be on another base. Load it on a copy of the base, or merge it."
            )


@contextmanager
def adapter_of(model: "PeftModel", domain: str) -> Iterator[str | None]:
    """TRL's `use_adapter` by domain: a domain without an adapter gets the base model. Yields the adapter's name."""
    from trl.trainer.utils import use_adapter

    name = domain if domain in model.peft_config else None
    if name is None and (setting := next(filter(None, map(changes_base, model.peft_config.values())), None)):
        raise AdapterError(f"Without its adapter ({setting}) the model is not the base any more. Load the base alone.")
    with use_adapter(model, name):
        yield name
