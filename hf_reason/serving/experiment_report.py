"""The report of an experiment: a page of Markdown, its figures as JSON, and a plot of how the evidence grew."""

import math
import os
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np

from hf_reason._files import write_atomically, write_json_atomically

from .experiment_result import Progress, Result
from .experiments import Experiment, Experiments
from .sequential import confidence_sequence

# Okabe and Ito's colours, which readers with colour blindness can distinguish, too.
_COLOURS = ("#0072B2", "#E69F00")
_POINTS = 200


def format_report(experiment: Experiment, result: Result) -> str:
    """The result in Markdown."""
    level = f"{100 * (1 - result.alpha):g}%"
    rows = [
        f"| {label} | {arm.version} | {arm.outcomes} | {arm.successes} | {_per_cent(arm.rate)} | "
        f"{_interval(arm.interval)} |"
        for label, arm in (("A", result.a), ("B", result.b))
    ]
    sources = ", ".join(f"{count} {name}" for name, count in sorted(result.sources.items())) or "none"
    difference = "-" if result.difference is None else f"{100 * result.difference:+.1f} points"
    low, high = result.difference_interval
    return "\n".join(
        [
            f"# {experiment.name}: {experiment.version_a} (A) and {experiment.version_b} (B) on {experiment.model}",
            "",
            f"Status: {result.status}; {result.summary}.",
            "",
            f"| arm | version | outcomes | successes | rate | {level} interval |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"- B minus A: {difference} ({level} interval {100 * low:+.1f} to {100 * high:+.1f})",
            f"- Evidence (e-value): {result.e_value:.3g} now, {result.max_e_value:.3g} at most; decided at "
            f"{1 / result.alpha:g}, at any time",
            f"- Outcomes: {sources}; the first of each user counts",
            f"- B has {100 * experiment.fraction:g}% of the users",
            "",
        ]
    )


def draw_result(experiments: Experiments, name: str) -> bytes:
    """PNG: the rates with their confidence sequences above, the evidence and the level of the decision below."""
    from matplotlib.figure import Figure  # not pyplot: it keeps every figure and needs a display's backend

    experiment, rows = experiments.get(name), experiments.outcomes(name)
    figure = Figure(figsize=(7.0, 6.4), layout="constrained")
    rates, evidence = figure.subplots(2, 1, sharex=True)
    for axes in (rates, evidence):
        axes.spines[["top", "right"]].set_visible(False)
    if rows:
        path = Progress(experiment.fraction, experiment.alpha).extend(rows)
        seen = np.arange(1, len(rows) + 1)
        evidence.plot(seen, path / math.log(10), color="#444444", linewidth=1.5)
        at = np.unique(np.linspace(1, len(rows), min(_POINTS, len(rows))).astype(int))
        for colour, arm, version in zip(_COLOURS, "AB", (experiment.version_a, experiment.version_b), strict=True):
            counts = np.cumsum([row[1] == arm for row in rows])[at - 1]
            successes = np.cumsum([row[1] == arm and row[2] for row in rows])[at - 1]
            bounds = np.array(
                [
                    confidence_sequence(int(right), int(count), experiment.alpha)
                    for right, count in zip(successes, counts, strict=True)
                ]
            )
            label = f"{arm}: {version}" if version.isascii() else arm  # the font may lack other letters
            rate = 100 * successes / np.where(counts, counts, np.nan)
            rates.plot(at, rate, color=colour, linewidth=2, label=label)
            rates.fill_between(at, 100 * bounds[:, 0], 100 * bounds[:, 1], color=colour, alpha=0.15, linewidth=0)
        rates.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    level = -math.log10(experiment.alpha)
    evidence.axhline(level, color="#D55E00", linestyle="--", linewidth=1)
    told = f"decided (e = {1 / experiment.alpha:g})"
    evidence.text(0.01, level, told, transform=evidence.get_yaxis_transform(), va="bottom")
    rates.set(ylabel="success rate (%)", ylim=(0, 100))
    evidence.set(xlabel="outcomes", ylabel="evidence (log10 e-value)", xlim=(0, max(len(rows), 1)))
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def save_report(experiments: Experiments, name: str, folder: str | os.PathLike[str]) -> Result:
    """Write `report.md`, `report.json` and `report.png` of an experiment into a folder.

    Raises:
        ExperimentError: if there is no such experiment.
    """
    experiment, result = experiments.get(name), experiments.result(name)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    text = format_report(experiment, result) + "\n![rates and evidence](report.png)\n"
    figures = asdict(result) | {"fraction": experiment.fraction, "model": experiment.model}
    write_atomically(target / "report.png", draw_result(experiments, name))
    write_json_atomically(target / "report.json", figures)
    write_atomically(target / "report.md", text)
    return result


def _per_cent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f}%"


def _interval(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.1f}-{100 * ends[1]:.1f}%"
