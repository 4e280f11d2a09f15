"""What the five metrics have in common: outputs are scored one by one, and any group of scores can be summed up."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

TEXT = datasets.Value("string")
# One list of steps for each prediction.
STEPS = datasets.List(datasets.Value("string"))


# Abstract also because `evaluate.load` uses the first class of a metric's module that is not.
class ReasoningMetric(evaluate.Metric, ABC):
    """A metric of the `evaluate` library that scores each output, and sums up the scores of any of them.

    `compute(..., use_aggregator=False)` gives `{"scores": [...]}`, a score for each output in their order, and
    `aggregate` the figures of a selection of them. The evaluator scores every output once and sums up all of them,
    each domain and each number of steps by the same code.

    Attributes:
        texts: Description, description of the inputs and citation.
        columns: Name and type of what `compute` gets for each output.
    """

    texts: tuple[str, str, str]
    columns: dict[str, Any]

    @abstractmethod
    def score(self, *args: Any, **inputs: Any) -> list[Any]:
        """A score for each output; the inputs are those of `compute`."""

    @abstractmethod
    def aggregate(self, scores: Sequence[Any]) -> dict[str, Any]:
        """The figures of some outputs; `None` where nothing can be said."""

    def _info(self) -> evaluate.MetricInfo:
        description, inputs, citation = self.texts
        return evaluate.MetricInfo(
            description=description,
            inputs_description=inputs,
            citation=citation,
            features=datasets.Features(self.columns),
        )

    def _compute(self, use_aggregator: bool = True, **inputs: Any) -> dict[str, Any]:
        scores = self.score(**inputs)
        return self.aggregate(scores) if use_aggregator else {"scores": scores}
