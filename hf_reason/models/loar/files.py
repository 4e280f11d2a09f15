"""The files of a LoAR: its configuration and one small file of weights."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_reason._files import write_atomically
from hf_reason.models.peft_adapters import AdapterError

from .configuration import CONFIG_FILE, LoARConfig

WEIGHTS_FILE = "loar.safetensors"


class LoARFiles(nn.Module):
    """Saving, loading and pushing; a part of `LoAR`."""

    config: LoARConfig
    groups: int
    budgets: list[int]
    _chosen: list[int]
    set_budgets: Any
    set_window_layers: Any

    @property
    def window_layers(self) -> list[int]:
        """The layers that have LoAR's window."""
        return list(self._chosen)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `loar_config.json` and `loar.safetensors`."""
        from safetensors.torch import save

        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        tensors["budgets"] = torch.tensor(self.budgets)
        tensors["window_layers"] = torch.tensor(self.window_layers, dtype=torch.long)
        write_atomically(where / WEIGHTS_FILE, save(tensors))
        self.config.save(where)

    @classmethod
    def from_pretrained(cls, model: Any, name: str | os.PathLike[str], revision: str | None = None) -> Any:
        """Apply a saved adapter to a model.

        Args:
            model: The base model (with or without a LoRA).
            name: The adapter's folder, or its name on the Hub.
            revision: Branch, tag or commit there.

        Raises:
            AdapterError: if there is no adapter, or it belongs to a model of another shape.
        """
        from safetensors import SafetensorError

        from .model import apply_loar

        loar = None
        try:
            paths = [_find(os.fspath(name), file, revision) for file in (CONFIG_FILE, WEIGHTS_FILE)]
            if None not in paths:
                loar = apply_loar(model, LoARConfig.load(paths[0]))  # type: ignore[arg-type]
                loar.load_weights(paths[1])  # type: ignore[arg-type]
        except (ValueError, TypeError, RuntimeError, KeyError, OSError, SafetensorError) as error:
            if loar is not None:
                loar.unload()
            what = " ".join(str(error).split())[:300]
            raise AdapterError(f"The LoAR {name} does not fit this model: {what}") from error
        if loar is None:
            raise AdapterError(f"{name} holds no LoAR ({CONFIG_FILE}, {WEIGHTS_FILE}). Check the folder or the name.")
        return loar

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read a `loar.safetensors` of an adapter of this shape."""
        from safetensors.torch import load_file

        tensors = load_file(path)
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{key} in {path} holds numbers that are not finite.")
        if "routers.shared" in tensors and not bool((tensors["routers.shared"] < self.groups).all()):
            raise ValueError(f"routers.shared in {path} names groups that the model does not have.")
        budgets, windows = tensors.pop("budgets").tolist(), tensors.pop("window_layers").tolist()
        self.load_state_dict(tensors)
        self.set_budgets(budgets)
        if self.config.sliding_window is not None and windows != self.window_layers:  # a search has moved them
            self.set_window_layers(windows)

    def push_to_hub(self, name: str, **kwargs: Any) -> str:
        """Upload the adapter's files to the Hub; returns the address. `kwargs` are those of `create_repo`."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        repo = api.create_repo(name, exist_ok=True, **kwargs).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo, folder_path=folder))


def _find(name: str, file: str, revision: str | None = None) -> str | None:
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
    return _find(name, CONFIG_FILE, revision) is not None


def with_saved_loar(model: Any, name: str, revision: str | None = None) -> Any:
    """The model, with the LoAR that was saved beside it, if there is one."""
    if has_loar(name, revision):
        from .model import LoAR

        LoAR.from_pretrained(model, name, revision)
    return model
