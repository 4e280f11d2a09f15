"""Evaluation of every step: metrics that `evaluate.load` loads, the evaluator, and its report."""

from pathlib import Path

from hf_reason._lazy import lazy_exports

METRICS = ("step_accuracy", "key_node_coverage", "reasoning_length", "distractor_resistance", "answer_accuracy")

# Each pulls in torch, transformers or matplotlib.
_lazy_getattr, _, _lazy_names = lazy_exports(
    __name__,
    {
        "evaluate_model": ".evaluator",
        "generate_ids": "..generation",
        "format_table": ".report",
        "save_report": ".report",
    },
)
__getattr__ = _lazy_getattr
__all__ = ["METRICS", "metric_path", *_lazy_names]


def metric_path(name: str) -> str:
    """The folder of a metric, for `evaluate.load(metric_path("step_accuracy"))`; works without a network.

    Raises:
        ValueError: if there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(f"There is no metric {name!r}. The metrics are {', '.join(METRICS)}.")
    return str(Path(__file__).parent / "metrics" / name)
