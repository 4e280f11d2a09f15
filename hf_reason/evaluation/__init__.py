"""Evaluation of every step: metrics that `evaluate.load` loads, the evaluator, its report and the model card."""

from pathlib import Path

from hf_reason._lazy import lazy_exports

METRICS = ("step_accuracy", "key_node_coverage", "reasoning_length", "distractor_resistance", "answer_accuracy")

# Each pulls in torch, transformers or matplotlib.
_lazy_getattr, _, _lazy_names = lazy_exports(
    __name__,
    {
        "EvaluationResult": ".result",
        "build_model_card": ".model_card.build",
        "evaluate_model": ".evaluator",
        "format_table": ".report",
        "generate_ids": "..generation",
        "load_metrics": ".metric_loading",
        "load_report": ".report",
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
