"""Makes the project's models known to transformers' Auto classes, as soon as these exist and no sooner.

`import hf_reason` must neither import transformers nor depend on what was imported first. So `install` registers what
it can at once and otherwise puts a finder on `sys.meta_path` that sees transformers' modules being imported. The
configuration follows `configuration_auto`. The model classes follow `modeling_auto`, once the import that pulled that
in is through: transformers' `modeling_layers` imports it half-way, when our modeling file cannot be imported yet.
Then the finder goes away.
"""

import importlib
import sys
import threading
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto"
_OURS = "hf_reason.models.step_reasoner."
_WATCHED = ("transformers.", _OURS)


class _Imports(threading.local):
    """The watched modules that this thread is importing, outermost first."""

    def __init__(self) -> None:
        self.names: list[str] = []


_imports = _Imports()
_running: set[str] = set()  # the same for all threads together
_done: set[str] = set()  # what is registered: "config", "models"
_warned: list[str] = []


class _Loader:
    """Loads as `loader` does and tells afterwards; the module keeps no trace of it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        if name == "_loader":  # a copy without attributes, as pickle makes them
            raise AttributeError(name)
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _imports.names.append(name)
        _running.add(name)
        try:
            self._loader.exec_module(module)
        finally:
            _imports.names.pop()
            _running.discard(name)
        _advance(finished=name)


class _Finder:
    """Finds what the finders behind it find, for transformers' modules and our own, and wraps the loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        if not name.startswith(_WATCHED) or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module") and not isinstance(spec.loader, _Loader):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


_finder = _Finder()


def install() -> None:
    """Register now what can be, and the rest when transformers' Auto modules are imported. Any number of calls."""
    if len(_done) == 2:
        return
    if _finder not in sys.meta_path:
        sys.meta_path = [_finder, *sys.meta_path]
    for module in ("configuration_auto", "modeling_auto"):
        if f"{_AUTO}.{module}" in sys.modules:
            importlib.import_module(f"{_AUTO}.{module}")  # waits while another thread is importing it
    _advance()


def _advance(finished: str = "") -> None:
    """Register what the imports made so far allow; `finished` is the module that has just been executed."""
    if len(_done) == 2 or any(name.startswith(_OURS) for name in _imports.names):
        return
    try:
        if "config" not in _done and _complete(f"{_AUTO}.configuration_auto", finished):
            _register_config()
            _done.add("config")
        if "config" in _done and not _imports.names and _complete(f"{_AUTO}.modeling_auto", finished):
            _register_models()
            _done.add("models")
    except Exception as error:
        # Raised, it would surface as a failed import of transformers, to which it does not belong. Modules that are
        # half-way imported (by another thread, or since before the finder was there) may be all that is wrong: the
        # next finished module tries again in any case.
        watched = [name for name in list(sys.modules) if name.startswith(_WATCHED) and name != finished]
        if not _warned and not any(_importing(name) for name in watched):
            _warned.append(repr(error))
            warnings.warn(
                f"hf_reason could not register StepReasoner with transformers' Auto classes: {error!r}. Import "
                "hf_reason.models.StepReasonerForCausalLM to see where it fails; everything else works.",
                stacklevel=2,
            )
    if len(_done) == 2:
        # a new list: another thread may be walking the old one, and would skip a finder if an entry went away
        sys.meta_path = [finder for finder in sys.meta_path if finder is not _finder]


def _complete(name: str, finished: str) -> bool:
    return name == finished or (name in sys.modules and name not in _running and not _importing(name))


def _importing(name: str) -> bool:
    # by __dict__: the lazy modules of transformers import things when asked for an attribute
    spec = getattr(sys.modules.get(name), "__dict__", {}).get("__spec__")
    return bool(getattr(spec, "_initializing", False))


def _register_config() -> None:
    from transformers.models.auto.configuration_auto import AutoConfig

    from hf_reason.models.step_reasoner.configuration_step_reasoner import StepReasonerConfig

    AutoConfig.register(StepReasonerConfig.model_type, StepReasonerConfig, exist_ok=True)
    StepReasonerConfig.register_for_auto_class()


def _register_models() -> None:
    from transformers.models.auto import modeling_auto

    from hf_reason.models.step_reasoner.configuration_step_reasoner import StepReasonerConfig
    from hf_reason.models.step_reasoner.modeling_step_reasoner import StepReasonerForCausalLM, StepReasonerModel

    for auto, model in (("AutoModel", StepReasonerModel), ("AutoModelForCausalLM", StepReasonerForCausalLM)):
        getattr(modeling_auto, auto).register(StepReasonerConfig, model, exist_ok=True)
        # so that save_pretrained and push_to_hub add the code files, for people without hf_reason
        model.register_for_auto_class(auto)
    # By this list of names Trainer knows that label smoothing has to shift the labels, and `transformers serve` that
    # the model writes text.
    modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[StepReasonerConfig.model_type] = StepReasonerForCausalLM.__name__
