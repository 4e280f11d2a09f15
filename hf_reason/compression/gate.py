"""Does the compressed model still reason? Both models on the same problems, compared, and a verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import comb
from typing import Any

from hf_reason.answers.equations import find_equations
from hf_reason.evaluation import EvaluationResult

from .errors import GateError


@dataclass(frozen=True)
class Measured:
    """One model's figures.

    Attributes:
        result: Of `evaluate_model(..., return_predictions=True)`.
        perplexity: Of the reference chains, `exp` of the mean loss of a target token; `None` without chains.
        disk_bytes: Files of weights.
        memory_bytes: Parameters and buffers as they are loaded.
        tokens_per_second: Generated tokens / seconds of the evaluation, on the machine that measured both models.
    """

    result: EvaluationResult
    perplexity: float | None = None
    disk_bytes: int | None = None
    memory_bytes: int | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A compressed model beside the one that it was made of.

    Attributes:
        before, after: Figure -> value, `None` where it does not apply; fractions, not percent.
        lost: Outputs whose answer was right before and is wrong now.
        won: The other way round.
        p_value: Of the exact McNemar test on `lost` and `won`, two-sided: the probability of a difference as large as
            this one if both models were equally good (Q. McNemar 1947, Psychometrika 12, 153-157).
        failures: Why the compressed model is refused, one sentence each; empty if it passes.
        limits: `max_drop` and `min_close_rate`.
        between: The figures of the compressed model before its recovery, if it had one.
    """

    before: dict[str, float | None]
    after: dict[str, float | None]
    lost: int
    won: int
    p_value: float
    failures: list[str] = field(default_factory=list)
    limits: dict[str, float | None] = field(default_factory=dict)
    between: dict[str, float | None] | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {**asdict(self), "passed": self.passed}


def compare(
    before: Measured,
    after: Measured,
    *,
    max_drop: float = 5.0,
    min_close_rate: float | None = None,
    between: Measured | None = None,
) -> Comparison:
    """Compare two models that answered the same problems.

    Args:
        before: The model that was compressed.
        after: The compressed model.
        max_drop: Points (percent) that answer accuracy and step accuracy may each fall by.
        min_close_rate: Least fraction of closed thoughts. Default: `max_drop` points below the close-rate before.
            Without effect on a model that writes no thoughts.
        between: The compressed model before its recovery, to be shown.

    Raises:
        ValueError: if the two were not evaluated on the same problems with predictions.
    """
    pairs = _paired(before.result, after.result)
    lost, won = sum(b and not a for b, a in pairs), sum(a and not b for b, a in pairs)
    first, second = figures(before), figures(after)
    failures = [
        f"{name.replace('_', ' ')} fell from {100 * then:.1f}% to {100 * now:.1f}%, more than "
        f"max_drop={max_drop:g} points"
        for name in ("answer_accuracy", "step_accuracy")
        if (then := first[name]) is not None and (now := second[name] or 0.0) < then - max_drop / 100 - 1e-12
    ]
    closed, closed_before = second["close_rate"], first["close_rate"]
    least = min_close_rate if min_close_rate is not None else (closed_before or 0.0) - max_drop / 100
    thinks = closed_before or (min_close_rate is not None and closed is not None)
    if thinks and (closed or 0.0) < least - 1e-12:
        was = "no thoughts" if closed_before is None else f"{100 * closed_before:.1f}%"
        failures.append(
            f"only {100 * (closed or 0.0):.1f}% of the thoughts are closed ({was} before, "
            f"{100 * least:.1f}% are asked for)"
        )
    limits = {"max_drop": max_drop, "min_close_rate": min_close_rate}
    shown = None if between is None else figures(between)
    return Comparison(first, second, lost, won, mcnemar(lost, won), failures, limits, shown)


def check(comparison: Comparison, folder: str) -> None:
    """Refuse a model that failed.

    Raises:
        GateError: naming what failed, and the `folder` in which the model stays.
    """
    if not comparison.passed:
        raise GateError(
            f"The compressed model is refused: {'; '.join(comparison.failures)}. It stays in {folder} with its "
            "report. Compress less (more bits, smaller groups, a lower ratio), let a pruned model recover with "
            "--recover_steps, or raise --max_drop or lower --min_close_rate."
        )


def mcnemar(lost: int, won: int) -> float:
    """The exact two-sided p-value for `lost` and `won` discordant pairs: a binomial test with probability 1/2."""
    total, low = lost + won, min(lost, won)
    return min(1.0, 2 * sum(comb(total, count) for count in range(low + 1)) / 2**total)


def first_wrong_step(steps: Sequence[str]) -> int | None:
    """The number of the first step (from 1) with an equation that does not hold; `None` if there is none."""
    for number, step in enumerate(steps, start=1):
        if not all(equation.holds for equation in find_equations(step)):
            return number
    return None


def _paired(before: EvaluationResult, after: EvaluationResult) -> list[tuple[bool, bool]]:
    """For each output with a verdict in both: whether it was right before and is right after."""
    keys, found = ("id", "sample", "reference"), []
    rows: list[Any] = [before.predictions, after.predictions]
    if not all(rows) or [[row[k] for k in keys] for row in rows[0]] != [[row[k] for k in keys] for row in rows[1]]:
        raise ValueError(
            "Both models need the predictions (return_predictions=True) of the same problems, in one order."
        )
    for then, now in zip(*rows, strict=True):
        if then["correct"] is not None and now["correct"] is not None:
            found.append((then["correct"], now["correct"]))
    return found


def figures(measured: Measured) -> dict[str, float | None]:
    """Figure -> value of a model, `None` where it does not apply; fractions, not percent."""
    result, rows = measured.result, list(measured.result.predictions or [])
    wrong = [first_wrong_step(row["steps"]) for row in rows]
    places = [place for place in wrong if place is not None]
    low, high = result.answer_accuracy_ci or (None, None)
    return {
        "answer_accuracy": result.answer_accuracy,
        "answer_accuracy_low": low,
        "answer_accuracy_high": high,
        "step_accuracy": result.step_accuracy,
        "wrong_chains": len(places) / len(rows) if rows else None,
        "first_wrong_step": sum(places) / len(places) if places else None,
        "close_rate": result.close_rate,
        "repeat_rate": result.repeat_rate,
        "language_ratio": result.language_ratio,
        "tokens_to_answer": result.reasoning_length.mean_tokens,
        "perplexity": measured.perplexity,
        "disk_bytes": measured.disk_bytes,
        "memory_bytes": measured.memory_bytes,
        "tokens_per_second": measured.tokens_per_second,
    }


_ROWS = (
    ("answer_accuracy", "answer accuracy", "%"),
    ("step_accuracy", "step accuracy", "%"),
    ("wrong_chains", "chains with a wrong step", "%"),
    ("first_wrong_step", "first wrong step", ""),
    ("close_rate", "close rate", "%"),
    ("repeat_rate", "repeat rate", "%"),
    ("language_ratio", "Chinese characters", "%"),
    ("tokens_to_answer", "tokens to the answer", ""),
    ("perplexity", "perplexity of the references", ""),
    ("disk_bytes", "weights on disk", "B"),
    ("memory_bytes", "weights in memory", "B"),
    ("tokens_per_second", "tokens/s", ""),
)


def table(comparison: Comparison, names: tuple[str, str] = ("before", "after")) -> list[tuple[str, ...]]:
    """Figure, value before, value after (between them that before the recovery), as texts.

    The first row has the names. Rows without values are left out.
    """
    columns = {names[0]: comparison.before, names[1]: comparison.after}
    if comparison.between is not None:
        columns = {names[0]: comparison.before, "before recovery": comparison.between, names[1]: comparison.after}
    return columns_table(columns)


def columns_table(columns: Mapping[str, Mapping[str, float | None]]) -> list[tuple[str, ...]]:
    """Figures of several models side by side, as texts; the first row has their names, rows without values are out."""
    rows: list[tuple[str, ...]] = [("", *columns)]
    for key, label, unit in _ROWS:
        if any(values.get(key) is not None for values in columns.values()):
            rows.append((label, *(_cell(key, values, unit) for values in columns.values())))
    return rows


def format_rows(rows: Sequence[tuple[str, ...]]) -> str:
    """A table of texts for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, *cells in rows:
        shown = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *shown]))
    return "\n".join(lines)


def format_comparison(comparison: Comparison, names: tuple[str, str] = ("before", "after")) -> str:
    """The table for a terminal, the paired test, and the verdict."""
    return "\n".join([format_rows(table(comparison, names)), *verdict(comparison)])


def verdict(comparison: Comparison) -> list[str]:
    """The paired test, and what the gate says: a sentence each."""
    lost = f"{comparison.lost} right answers are lost and {comparison.won} are won"
    paired = f"{lost} (McNemar's exact test: p = {comparison.p_value:.3f})."
    if comparison.passed:
        return [paired, "The compressed model passes the gate."]
    return [paired, f"The gate refuses the compressed model: {'; '.join(comparison.failures)}."]


def _cell(key: str, values: Mapping[str, float | None], unit: str) -> str:
    value = values.get(key)
    if value is None:
        return "-"
    low, high = values.get("answer_accuracy_low"), values.get("answer_accuracy_high")
    if key == "answer_accuracy" and low is not None:
        return f"{100 * value:.1f}% ({100 * low:.1f}-{100 * (high or 0):.1f})"
    if unit == "%":
        return f"{100 * value:.1f}%"
    if unit == "B":
        return f"{value / 1e6:.2f} MB" if value < 1e9 else f"{value / 1e9:.2f} GB"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
