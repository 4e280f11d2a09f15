"""From single outputs to the figures of all records, of each domain and of each number of steps."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .result import EvaluationResult, GroupResult, LengthHistogram, ReasoningLength, domain_order
from .scoring import mean

if TYPE_CHECKING:
    from .metric_base import ReasoningMetric

# The metrics whose figures are those of a group; resistance to distractors needs a second run.
SCORED = ("answer_accuracy", "step_accuracy", "key_node_coverage", "reasoning_length")
# Numbers of steps up to this have a row of their own; longer chains are put together.
_SINGLE_STEPS = 10
_STEP_BINS = ((11, 20), (21, 40))
_HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class ScoredOutput:
    """One output with everything that the figures are made of.

    Attributes:
        record: Number of the record; the outputs of one record have the same.
        domain: Of the record.
        reference_steps: Number of steps of the reference.
        thought_tokens: Tokens until the answer.
        closed: Whether the model wrote `</think>`, or no tags are expected.
        chinese: Fraction of Chinese characters in the output; `None` unless the record is Chinese and the output not
            empty.
        scores: The output's score in each metric of `SCORED`.
    """

    record: int
    domain: str
    reference_steps: int
    thought_tokens: int
    closed: bool
    chinese: float | None
    scores: Mapping[str, Any]


class Summary:
    """Sums up outputs by what the loaded metrics make of their scores."""

    def __init__(self, metrics: "Mapping[str, ReasoningMetric]") -> None:
        self.metrics = {name: metrics[name] for name in SCORED}

    def figures(self, outputs: Sequence[ScoredOutput]) -> dict[str, Any]:
        """The fields of `GroupResult` for a group of outputs.

        Step accuracy and coverage are counted over all outputs together (every step, every key result counts
        alike), answer accuracy over the records, the rest over the outputs.
        """
        found: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            found |= metric.aggregate([output.scores[name] for output in outputs])
        lengths = {name: found[name] for name in ("mean_tokens", "median_tokens", "p95_tokens", "mean_steps")}
        records = {output.record for output in outputs}
        # A verdict is None where the record has no answer.
        scored = {record for record, verdict in (o.scores["answer_accuracy"] for o in outputs) if verdict is not None}
        return {
            "answer_accuracy": found["answer_accuracy"],
            "answer_accuracy_ci": found["answer_accuracy_ci"],
            "step_accuracy": found["step_accuracy"],
            "equations_hold": found["equations_hold"],
            "checkable_share": found["checkable_share"],
            "key_node_coverage": found["key_node_coverage"],
            "reasoning_length": ReasoningLength(**lengths),
            "close_rate": found["close_rate"],
            "repeat_rate": found["repeat_rate"],
            "language_ratio": mean(output.chinese for output in outputs),
            "num_records": len(records),
            "num_scored": len(scored) if len(scored) < len(records) else None,
        }

    def by(self, outputs: Sequence[ScoredOutput], key: Callable[[ScoredOutput], str]) -> dict[str, GroupResult]:
        """The figures for each value of `key`, in the order in which the values come up."""
        groups: dict[str, list[ScoredOutput]] = defaultdict(list)
        for output in outputs:
            groups[key(output)].append(output)
        return {name: GroupResult(**self.figures(group)) for name, group in groups.items()}

    def result(self, outputs: Sequence[ScoredOutput], **run: Any) -> EvaluationResult:
        """All figures: of all outputs, by domain (in the project's order) and by number of steps of the reference.

        Args:
            outputs: All of a run.
            **run: The other fields of `EvaluationResult`.
        """
        figures = self.figures(outputs)
        figures["reasoning_length"].histogram = length_histogram(outputs)
        by_domain = sorted(outputs, key=lambda output: domain_order(output.domain))
        by_steps = sorted(outputs, key=lambda output: output.reference_steps)
        return EvaluationResult(
            **figures,
            by_domain=self.by(by_domain, lambda output: output.domain),
            by_num_steps=self.by(by_steps, lambda output: steps_label(output.reference_steps)),
            **run,
        )


def steps_label(steps: int) -> str:
    """The row of a chain of that many steps: "3", "11-20", "41+"."""
    if steps <= _SINGLE_STEPS:
        return str(steps)
    return next((f"{low}-{high}" for low, high in _STEP_BINS if steps <= high), f"{_STEP_BINS[-1][1] + 1}+")


def length_histogram(outputs: Sequence[ScoredOutput]) -> LengthHistogram:
    """Lengths in tokens until the answer, in equal bins from 0."""
    longest = max((output.thought_tokens for output in outputs), default=0)
    width = longest // _HISTOGRAM_BINS + 1
    bins = longest // width + 1
    counts = {True: [0] * bins, False: [0] * bins}
    for output in outputs:
        counts[output.closed][output.thought_tokens // width] += 1
    return LengthHistogram([width * edge for edge in range(bins + 1)], counts[True], counts[False])
