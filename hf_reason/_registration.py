"""Makes the project's models known to transformers' Auto classes, by name: nothing is imported for it.

transformers keeps its own models in tables of names (model type -> class name) and imports
`transformers.models.<model type>` when a class is asked for. StepReasoner is entered there like one of them, with its
package under that module name. `import hf_reason` must neither import transformers nor depend on what was imported
first: tables that are there are filled at once, the others by a finder on `sys.meta_path` as soon as the two modules
that hold them have been imported; then the finder is gone.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto."
_TYPE = "step_reasoner"
_CONFIG, _BASE, _CAUSAL = "StepReasonerConfig", "StepReasonerModel", "StepReasonerForCausalLM"


def _enter_config(module: Any) -> None:
    module.CONFIG_MAPPING_NAMES[_TYPE] = _CONFIG
    sys.modules.setdefault(f"transformers.models.{_TYPE}", importlib.import_module(f"hf_reason.models.{_TYPE}"))


def _enter_models(module: Any) -> None:
    module.MODEL_MAPPING_NAMES[_TYPE] = _BASE
    # from this one Trainer knows that label smoothing has to shift the labels, and `transformers serve` that the model
    # writes text
    module.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[_TYPE] = _CAUSAL
    for mapping in (module.MODEL_MAPPING, module.MODEL_FOR_CAUSAL_LM_MAPPING):
        mapping._reverse_config_mapping[_CONFIG] = _TYPE  # made before, if hf_reason was imported after


_ENTER = {f"{_AUTO}configuration_auto": _enter_config, f"{_AUTO}modeling_auto": _enter_models}


class _Finder:
    """Finds the modules of `_ENTER` as the finders behind it do, and fills their tables after they have run."""

    def __init__(self) -> None:
        self.waiting = set(_ENTER)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        if name not in self.waiting or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:
            spec: Any = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                # on this one loader, which is new for each import; it is removed again before the module runs
                spec.loader.exec_module = partial(self._execute, spec.loader)
                return spec  # type: ignore[no-any-return]
        return None

    def _execute(self, loader: Any, module: ModuleType) -> None:
        del loader.exec_module
        loader.exec_module(module)
        self.enter(module)

    def enter(self, module: ModuleType) -> None:
        try:
            _ENTER[module.__name__](module)
        except Exception as error:  # raised, it would be a failed import of transformers
            warnings.warn(
                f"hf_reason could not register StepReasoner with transformers' Auto classes: {error!r}. Use "
                "StepReasonerForCausalLM.from_pretrained; everything else works.",
                stacklevel=2,
            )
        self.waiting.discard(module.__name__)
        if not self.waiting:
            # a new list: another thread may be walking the old one, and would skip a finder if an entry went away
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]


_finder = _Finder()


def install() -> None:
    """Fill the tables that are there, and the others when they are imported. Any number of calls."""
    if _finder.waiting and _finder not in sys.meta_path:
        sys.meta_path = [_finder, *sys.meta_path]  # type: ignore[list-item]
    for name in sorted(_finder.waiting):
        if name in sys.modules:
            _finder.enter(importlib.import_module(name))  # waits while another thread is importing it
