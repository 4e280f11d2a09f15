"""From single outputs to figures: means over the records, and the same by domain and by number of steps."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.data.record import DOMAINS

from .scoring import StepScore, length_figures, mean, ratio, wilson_interval

# Numbers of steps up to this have a row of their own; longer chains share one.
_SINGLE_STEPS = 10
_STEP_BINS = ((11, 20), (21, 40))
_HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class ScoredOutput:
    """One output with everything that the figures are made of.

    Attributes:
        record: Number of the record; its samples share it.
        domain: Of the record.
        reference_steps: Number of steps of the reference.
        correct: Verdict on the answer; `None` when the record has no answer to compare with.
        steps: Number of steps of the output.
        step_score: Counts of right steps.
        covered, key_results: Key results of the reference that occur, and all of them.
        thought_tokens: Tokens until the answer.
        closed: Whether `</think>` was written.
        loops: Whether the output goes round in circles.
        chinese: Share of Chinese in the output; `None` unless the record is Chinese and the output not empty.
    """

    record: int
    domain: str
    reference_steps: int
    correct: bool | None
    steps: int
    step_score: StepScore
    covered: int
    key_results: int
    thought_tokens: int
    closed: bool
    loops: bool
    chinese: float | None


def answer_accuracy(outputs: Sequence[ScoredOutput]) -> tuple[float | None, list[float] | None]:
    """Mean over the records of the mean over their samples, and its 95% interval.

    The interval is Wilson's with the number of records as trials: samples of one record are not independent,
    so counting them as trials would make it too narrow.
    """
    verdicts: dict[int, list[bool]] = defaultdict(list)
    for output in outputs:
        if output.correct is not None:
            verdicts[output.record].append(output.correct)
    accuracy = mean(mean(samples) for samples in verdicts.values())
    if accuracy is None:
        return None, None
    return accuracy, list(wilson_interval(accuracy, len(verdicts)))


def _length(outputs: Sequence[ScoredOutput]) -> dict[str, Any]:
    return {
        **length_figures([output.thought_tokens for output in outputs]),
        "mean_steps": mean(output.steps for output in outputs),
    }


def summarise(outputs: Sequence[ScoredOutput]) -> dict[str, Any]:
    """The figures of a group of outputs; what cannot be said of them is `None`.

    Step accuracy and coverage are counted over all outputs together (every step, every key result counts
    alike), answer accuracy over the records, the rest over the outputs.
    """
    accuracy, interval = answer_accuracy(outputs)
    score = sum((output.step_score for output in outputs), StepScore())
    return {
        "answer_accuracy": accuracy,
        "answer_accuracy_ci": interval,
        "step_accuracy": ratio(score.correct, score.checkable),
        "equations_hold": ratio(score.holding, score.checkable),
        "checkable_share": ratio(score.checkable, score.total),
        "key_node_coverage": ratio(sum(o.covered for o in outputs), sum(o.key_results for o in outputs)),
        "reasoning_length": _length(outputs),
        "close_rate": mean(output.closed for output in outputs),
        "repeat_rate": mean(output.loops for output in outputs),
        "language_ratio": mean(output.chinese for output in outputs),
        "num_records": len({output.record for output in outputs}),
    }


def steps_label(steps: int) -> str:
    """The row of a chain of that many steps: "3", "11-20", "41+"."""
    if steps <= _SINGLE_STEPS:
        return str(steps)
    return next((f"{low}-{high}" for low, high in _STEP_BINS if steps <= high), f"{_STEP_BINS[-1][1] + 1}+")


def grouped(outputs: Sequence[ScoredOutput], key: Callable[[ScoredOutput], Any]) -> dict[Any, dict[str, Any]]:
    """`summarise` for each value of `key`, in the order in which the values come up."""
    groups: dict[Any, list[ScoredOutput]] = defaultdict(list)
    for output in outputs:
        groups[key(output)].append(output)
    return {name: summarise(group) for name, group in groups.items()}


def length_histogram(outputs: Sequence[ScoredOutput]) -> dict[str, list[int]]:
    """Lengths in tokens until the answer, in equal bins from 0: bin i holds edges[i] <= length < edges[i + 1].

    `closed` counts the outputs that wrote `</think>`, `open` the others.
    """
    longest = max((output.thought_tokens for output in outputs), default=0)
    width = longest // _HISTOGRAM_BINS + 1
    bins = longest // width + 1
    counts = {True: [0] * bins, False: [0] * bins}
    for output in outputs:
        counts[output.closed][output.thought_tokens // width] += 1
    return {"edges": [width * edge for edge in range(bins + 1)], "closed": counts[True], "open": counts[False]}


def all_figures(outputs: Sequence[ScoredOutput]) -> dict[str, Any]:
    """The figures of all outputs, by domain (in the project's order) and by number of steps of the reference."""
    figures = summarise(outputs)
    figures["reasoning_length"]["histogram"] = length_histogram(outputs)
    order = {domain: place for place, domain in enumerate(DOMAINS)}
    by_domain = sorted(outputs, key=lambda output: (order.get(output.domain, len(order)), output.domain))
    by_steps = sorted(outputs, key=lambda output: output.reference_steps)
    figures["by_domain"] = grouped(by_domain, lambda output: output.domain)
    figures["by_num_steps"] = grouped(by_steps, lambda output: steps_label(output.reference_steps))
    return figures
