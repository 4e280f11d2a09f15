"""The metric folders, loaded by the `evaluate` library: once in a process, without a network."""

import sys
from functools import cache
from typing import TYPE_CHECKING

from hf_reason.evaluation import METRICS, metric_path

if TYPE_CHECKING:
    from .metric_base import ReasoningMetric


@cache
def load_metrics() -> "dict[str, ReasoningMetric]":
    """All metrics by name. Data stay in memory; the modules are copied into HF_MODULES_CACHE, as `evaluate` does it.

    Several processes may do this at once (`evaluate` locks the folder).

    Raises:
        OSError: if the caches cannot be written. The message names the variables that move them.
    """
    return {name: _load(name) for name in METRICS}


def _load(name: str) -> "ReasoningMetric":
    import evaluate

    try:
        try:
            return evaluate.load(metric_path(name), keep_in_memory=True)
        except (SyntaxError, NameError, TypeError):
            # A full disk can leave an empty or cut copy, which `evaluate` would keep importing.
            for module in [module for module in sys.modules if module.startswith(f"evaluate_modules.metrics.{name}.")]:
                del sys.modules[module]
            return evaluate.load(metric_path(name), keep_in_memory=True, download_mode="force_redownload")
    except OSError as error:
        places = " and ".join(
            str(place) for place in (evaluate.config.HF_MODULES_CACHE, evaluate.config.HF_METRICS_CACHE)
        )
        raise OSError(
            f"The metrics cannot be loaded. The evaluate library copies them into {places}, which failed: {error}. "
            "Set HF_HOME, or HF_MODULES_CACHE and HF_METRICS_CACHE, to a folder that can be written."
        ) from error
