"""The plots of an evaluation: accuracy by number of steps and by domain, and how long the reasoning is."""

import itertools
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from .result import EvaluationResult, GroupResult, group_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Models = Mapping[str, EvaluationResult]

# Okabe and Ito's colours, which readers with colour blindness can distinguish, too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


def _label(name: str, place: int) -> str:
    """A model's name, or its number where the plots' font may lack the letters."""
    return name if name.isascii() else f"model {place + 1}"


def _new_axes(wide: float = 7.0) -> "tuple[Figure, Axes]":
    # Not pyplot: it keeps every figure and needs a display's backend.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def _accuracy_plot(models: Models, group: str, label: str) -> bytes:
    """Bars with their 95% intervals, one colour for each model; "-" where a group has no answer to compare with."""
    names = group_names(models, group)
    figure, axes = _new_axes(max(7.0, 1.6 + 0.45 * len(names) * len(models)))
    width = 0.8 / len(models)
    for place, (model, results) in enumerate(models.items()):
        groups: dict[str, GroupResult] = results[group]
        at, values, errors = [], [], []
        for number, name in enumerate(names):
            figures, x = groups.get(name), number + (place - (len(models) - 1) / 2) * width
            if figures is None or figures.answer_accuracy is None:
                axes.text(x, 0.5, "-", ha="center", fontsize=14)
                continue
            at.append(x)
            values.append(100 * figures.answer_accuracy)
            low, high = figures.answer_accuracy_ci or (figures.answer_accuracy,) * 2
            # The mean is always inside the interval, but for rounding errors.
            errors.append((max(0.0, values[-1] - 100 * low), max(0.0, 100 * high - values[-1])))
        colour, whiskers = _COLOURS[place % len(_COLOURS)], {"elinewidth": 1, "ecolor": "#444444", "capsize": 2}
        lengths = list(zip(*errors, strict=True)) or None
        axes.bar(at, values, width, yerr=lengths, error_kw=whiskers, color=colour, label=_label(model, place))
    counts = [
        max(results[group][name].num_records for results in models.values() if name in results[group])
        for name in names
    ]
    axes.set_xticks(range(len(names)), [f"{name}\nn={count}" for name, count in zip(names, counts, strict=True)])
    # Bars fill the plot by themselves; a "-" at the edge would not.
    edges = (-0.6, len(names) - 0.4)
    axes.set(xlabel=label, ylabel="answer accuracy (%), 95% interval", ylim=(0, 105), xlim=edges)
    if len(models) > 1:
        _legend(axes)
    return _png(figure)


def _legend(axes: "Axes") -> None:
    """Above the plot, where it covers nothing."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _length_plot(models: Models) -> bytes:
    """One model: a histogram, closed and open thoughts stacked. Several: the fraction that is done by then.

    Each model has its own bins, so histograms of several could not be compared.
    """
    figure, axes = _new_axes()
    # None for a result put together by hand, or a mean of several.
    histograms = {model: results.reasoning_length.histogram for model, results in models.items()}
    longest = max((histogram.edges[-1] for histogram in histograms.values() if histogram), default=1)
    for place, (model, histogram) in enumerate(histograms.items()):
        if histogram is None:
            continue
        edges, closed, open_ = histogram.edges, histogram.closed, histogram.open
        if len(models) == 1:
            widths = edges[1] - edges[0]
            axes.bar(edges[:-1], closed, widths, align="edge", color=_COLOURS[0], label="thought closed")
            if any(open_):
                axes.bar(edges[:-1], open_, widths, closed, align="edge", color=_COLOURS[3], label="not closed")
            axes.set_ylabel("outputs")
        else:
            total = sum(closed) + sum(open_) or 1
            done = [100 * count / total for count in itertools.accumulate(closed, initial=0)]
            # Nothing more is done by the longest output of the other models.
            axes.plot(
                [*edges, longest],
                [*done, done[-1]],
                label=_label(model, place),
                color=_COLOURS[place % len(_COLOURS)],
                linewidth=2,
            )
            axes.set(ylabel="outputs with a closed thought (%)", ylim=(0, 105))
    axes.set(xlabel="reasoning length (tokens until the answer)", xlim=(0, None))
    if axes.get_legend_handles_labels()[0]:
        _legend(axes)
    return _png(figure)


def draw_plots(models: Models) -> dict[str, bytes]:
    """The plots of one or several models as PNG files, by name."""
    groups = {"by_num_steps": "steps of the reference", "by_domain": "domain"}
    plots = {
        f"accuracy_{group}": _accuracy_plot(models, group, label)
        for group, label in groups.items()
        if group != "by_num_steps" or group_names(models, group)
    }
    return {**plots, "reasoning_length": _length_plot(models)}
