"""LoAR on a model: `apply_loar` puts it on; `LoAR` takes it off, changes its settings, saves and loads it."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

from torch import nn

from hf_reason.models.layer_selection import parse_layers
from hf_reason.models.lm_head import causal_model
from hf_reason.models.peft_adapters import AdapterError

from .attention import NAME
from .configuration import LoARConfig
from .files import CONFIG_FILE, WEIGHTS_FILE, find_file, has_loar, read_weights, write_weights
from .hooks import PROJECTIONS, forward_with_prompts, generate_from_prompt, native_window, sliced_forward, wrap
from .router import Route
from .routing import Routing


class LoAR(Routing):
    """The adapter: routers, and the hooks by which they act on a model. `apply_loar` makes one; it is `model.loar`.

    Its state and what it does in a pass are in [`Routing`].
    """

    def __init__(self, model: Any, config: LoARConfig):
        super().__init__(model, config)
        self._native: list[int | None] = []
        self._chosen: list[int] = []
        self._undo: list[Callable[[], None]] = []
        self._sliceable: list[Any] = []
        self._model = [model]  # in a list: the model is not a part of its adapter
        self._handles: list[Any] = []
        self._before: dict[str, Any] = {}

    # -- putting it on and taking it off

    def _install(self, model: Any) -> None:
        config = model.config.get_text_config()
        self._before = {"attention": config._attn_implementation, "ignored": model._keys_to_ignore_on_save}
        self._native = [native_window(attention, config, i) for i, attention in enumerate(self._layers)]
        for attention in self._layers:
            attention.loar = Route(self.units)
        self._set_windows(self.config.window_layers)  # may refuse, so before anything else
        model.set_attn_implementation(NAME)
        self._undo = [wrap(model, "forward", forward_with_prompts), wrap(model, "generate", generate_from_prompt)]
        self._handles.append(model.base_model.register_forward_pre_hook(self._begin, with_kwargs=True))
        for index, attention in enumerate(self._layers):
            # partial, not closures: a deep copy of the model gets hooks of its own
            before = partial(self._before_attention, index)
            self._handles.append(attention.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(attention.register_forward_hook(self._after_attention))
            for name in PROJECTIONS:
                projection = getattr(attention, name)
                # not over a forward that somebody (accelerate's offloading) has put there
                if type(projection) is nn.Linear and "forward" not in vars(projection):
                    vars(projection).update(forward=MethodType(sliced_forward(name), projection), rows=None)
                    self._sliceable.append(projection)
        model.loar = self
        # the adapter has a file of its own
        keys = {f"loar.{name}" for name in self.state_dict()}
        model._keys_to_ignore_on_save = {*(model._keys_to_ignore_on_save or ()), *keys}

    def unload(self) -> Any:
        """Take everything off again; returns the model as it was, bit for bit."""
        model = self._model[0]
        if getattr(model, "loar", None) is not self:
            raise AdapterError("This LoAR is not on a model any more.")
        for handle in self._handles:
            handle.remove()
        for undo in reversed(self._undo):
            undo()
        for attention in self._layers:
            del attention.loar
        for projection in self._sliceable:
            vars(projection).pop("forward", None)
            vars(projection).pop("rows", None)
        self._handles, self._undo, self._sliceable = [], [], []
        model.set_attn_implementation(self._before["attention"])
        model._keys_to_ignore_on_save = self._before["ignored"]
        del model.loar
        return model

    # -- what the user sets

    def set_budgets(self, budgets: Sequence[int]) -> None:
        """Let other numbers of groups (or heads) work; the routers stay.

        Raises:
            ValueError: if they do not fit the model.
        """
        if self.config.static_groups is not None:
            if list(budgets) != self.budgets:
                raise ValueError("static_groups say which groups work: no other budgets can be set.")
            return
        config = dataclasses.replace(self.config, budget=[int(k) for k in budgets])
        self.config, self.budgets = config, config.budgets(len(self._layers), self.units)

    @contextmanager
    def task(self, names: str | Sequence[str] | None) -> Iterator[None]:
        """Route for a task (or one for each row) in the passes inside; an unknown task counts as none given."""
        known = {name: number for number, name in enumerate(self.config.task_names)}
        listed = [names] if isinstance(names, str) or names is None else list(names)
        before, self._task = self._task, [known.get(name, -1) if name else -1 for name in listed]
        try:
            yield
        finally:
            self._task = before

    @contextmanager
    def prompts_end_at(self, columns: Sequence[int]) -> Iterator[None]:
        """In the `generate` inside, each row's prompt ends before this column; what follows has been generated."""
        from torch import tensor

        before, self.prompt_ends = self.prompt_ends, tensor(list(columns))
        try:
            yield
        finally:
            self.prompt_ends = before

    def set_window_layers(self, layers: Sequence[int]) -> None:
        """Let other layers have the window.

        Raises:
            ValueError: if LoAR has no window, or a layer does not exist.
        """
        if self.config.sliding_window is None:
            raise ValueError("This LoAR has no sliding_window. Apply one with a window first.")
        self._set_windows(list(layers))
        self.config = dataclasses.replace(self.config, window_layers=list(layers))

    @property
    def window_layers(self) -> list[int]:
        """The layers that have LoAR's window."""
        return list(self._chosen)

    def _set_windows(self, layers: str | float | Sequence[int]) -> None:
        """A layer's window is the model's own, or LoAR's if that is narrower; the model's config stays as it is."""
        ours = self.config.sliding_window
        self._chosen = [] if ours is None else parse_layers(layers, len(self._layers), option="window_layers")
        for layer, (attention, native) in enumerate(zip(self._layers, self._native, strict=True)):
            windows = [window for window in (native, ours if layer in self._chosen else None) if window is not None]
            attention.loar.window = min(windows) if windows else None

    # -- files

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write `loar_config.json`, where budgets and window layers are numbers, and `loar.safetensors`."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        write_weights(save_directory, tensors, self.budgets, self.window_layers)
        # what works, whether it was given, searched or loaded: a resumed run writes what an unbroken one does
        windows = self.config.window_layers if self.config.sliding_window is None else self.window_layers
        budget = self.config.budget if self.config.static_groups is not None else self.budgets
        dataclasses.replace(self.config, budget=budget, window_layers=windows).save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, model: Any, name: str | os.PathLike[str], revision: str | None = None) -> Any:
        """Put a saved adapter on a model, in place; returns the model, as `PeftModel.from_pretrained` does.

        `model.loar` is the adapter.

        Args:
            model: The base model (with or without a LoRA).
            name: The adapter's folder, or its name on the Hub.
            revision: Branch, tag or commit there.

        Raises:
            AdapterError: if there is no adapter, or it belongs to a model of another shape.
        """
        from safetensors import SafetensorError

        loar = None
        try:
            weights = find_file(os.fspath(name), WEIGHTS_FILE, revision)
            if weights is not None and has_loar(os.fspath(name), revision):
                loar = _put_on(model, LoARConfig.from_pretrained(name, revision))
                loar.load_weights(weights)
        except (ValueError, TypeError, RuntimeError, KeyError, OSError, SafetensorError) as error:
            if loar is not None:
                loar.unload()
            what = " ".join(str(error).split())[:300]
            raise AdapterError(f"The LoAR {name} does not fit this model: {what}") from error
        if loar is None:
            raise AdapterError(f"{name} holds no LoAR ({CONFIG_FILE}, {WEIGHTS_FILE}). Check the folder or the name.")
        return model

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read a `loar.safetensors` of an adapter of this shape."""
        tensors, budgets, windows = read_weights(path, self.units, self.config.grain)
        self.load_state_dict(tensors)
        self.set_budgets(budgets)
        if self.config.sliding_window is not None and windows != self.window_layers:  # a search has moved them
            self.set_window_layers(windows)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Upload the adapter's files to the Hub; returns the address. `kwargs` are those of `create_repo`."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        repo = api.create_repo(repo_id, exist_ok=True, **kwargs).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo, folder_path=folder))


def loar_of(model: Any) -> LoAR | None:
    """The LoAR of a model, inside PEFT's wrapper or not."""
    return getattr(causal_model(model), "loar", None)


def apply_loar(model: Any, config: LoARConfig) -> LoAR:
    """Put LoAR on a model, in place.

    The routers are new and have to be trained (`CoTSFTTrainer` does, together with the model or with a LoRA). With a
    budget of 1 and no window the model computes what it did before.

    Args:
        model: A causal language model of the Qwen2, Qwen3, Llama or Mistral shape, with or without a LoRA.
        config: Budgets, windows, tasks.

    Returns:
        The adapter, which is also `model.loar`.

    Raises:
        ValueError: if the model cannot be routed (by name), has a LoAR already, if budgets or windows do not fit, or
            if the budget's fraction leaves everything at work.
    """
    return _put_on(model, config, new=True)


def _put_on(model: Any, config: LoARConfig, new: bool = False) -> LoAR:
    model = causal_model(model)
    if hasattr(model, "loar"):
        raise ValueError("The model has a LoAR already. Take it off first: model.loar.unload().")
    loar = LoAR(model, config)
    if new:
        text = model.config.get_text_config()
        config.check_effect(len(loar.budgets), loar.groups, int(text.num_attention_heads), text.vocab_size)
    loar.to(device=next(model.parameters()).device).train(model.training)
    loar._install(model)
    return loar


def with_saved_loar(model: Any, name: str, revision: str | None = None) -> Any:
    """The model, with the LoAR that was saved beside it, if there is one.

    Raises:
        AdapterError: if it does not fit the model, or one of its files is missing.
    """
    if has_loar(name, revision):
        return LoAR.from_pretrained(model, name, revision)
    if os.path.isfile(os.path.join(name, WEIGHTS_FILE)):
        raise AdapterError(
            f"{name} has a {WEIGHTS_FILE} and no {CONFIG_FILE}: without it the model would run unrouted. Bring the "
            f"file back (model.loar.save_pretrained writes both), or remove {WEIGHTS_FILE}."
        )
    return model
