"""Figures of generated text, in an evaluation's metrics before loggers and callbacks see them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import Trainer


class GeneratedFigures:
    """Calls `generation_eval` once in each evaluation.

    The figures are due when the evaluation logs its loss: then `on_evaluate` gets them too (early stopping, the best
    checkpoint), and the evaluation's `runtime` does not contain the generation. Of several evaluation sets, which the
    Trainer evaluates one by one, the figures belong to the whole.

    Args:
        generate: Called with the unwrapped model; returns figures by name. `None`: there are none.
    """

    def __init__(self, generate: Callable[[Any], dict[str, float]] | None):
        self.generate = generate
        self._due: str | None = None  # the prefix of the evaluation that is to log figures
        self._inside = False

    @contextmanager
    def evaluation(self, prefix: str, several: bool) -> Iterator[bool]:
        """Around one evaluation; yields whether the figures are still to be made at its end.

        Args:
            prefix: Of the names of its metrics.
            several: Whether it has several sets.
        """
        if self._inside or self.generate is None:
            yield False
            return
        self._inside, self._due = True, None if several else prefix
        try:
            yield several
        finally:
            self._inside, self._due = False, None

    def are_due(self, logs: Mapping[str, float]) -> bool:
        """Whether these are the logs of an evaluation that waits for the figures."""
        return self._due is not None and f"{self._due}_runtime" in logs

    def make(self, model: Any, prefix: str | None = None) -> dict[str, float]:
        """The figures under the evaluation's prefix; the model is left in the mode that it was in."""
        assert self.generate is not None
        prefix, self._due = prefix or self._due, None
        training = model.training
        figures = {f"{prefix}_{name}": value for name, value in self.generate(model).items()}
        model.train(training)
        return figures


class GeneratedEvaluation:
    """The part of a Trainer whose evaluations have such figures: `self.generated`, a `GeneratedFigures`."""

    generated: GeneratedFigures

    def evaluate(
        self: Any, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        several = isinstance(self.eval_dataset if eval_dataset is None else eval_dataset, dict)
        with self.generated.evaluation(metric_key_prefix, several) as after_all_sets:
            metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[misc]
            if after_all_sets:
                figures = self.generated.make(self._unwrapped(), metric_key_prefix)
                metrics.update(figures)
                # Not through `self.log`: the averages of the loss evaluation have been logged and cleared there.
                Trainer.log(self, figures)
                self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self: Any, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.generated.are_due(logs):
            logs.update(self.generated.make(self._unwrapped()))
        super().log(logs, start_time)  # type: ignore[misc]
