"""The plots of an evaluation: accuracy by number of steps and by domain, and how long the reasoning is."""

import itertools
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from .report import group_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Models = Mapping[str, Mapping[str, Any]]

# Okabe and Ito's colours, told apart with colour blindness, too.
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
    """Bars with their 95% intervals, one colour a model."""
    names = group_names(models, group)
    figure, axes = _new_axes(max(7.0, 1.6 + 0.45 * len(names) * len(models)))
    width = 0.8 / len(models)
    for place, (model, results) in enumerate(models.items()):
        rows = [results.get(group, {}).get(name, {}) for name in names]
        shown = [(i, row) for i, row in enumerate(rows) if row.get("answer_accuracy") is not None]
        values = [100 * row["answer_accuracy"] for _, row in shown]
        bounds = [[100 * bound for bound in row["answer_accuracy_ci"]] for _, row in shown]
        # The interval always holds the mean; max() takes off rounding errors below 0.
        errors = [
            [max(0.0, value - low) for value, (low, _) in zip(values, bounds, strict=True)],
            [max(0.0, high - value) for value, (_, high) in zip(values, bounds, strict=True)],
        ]
        at = [i + (place - (len(models) - 1) / 2) * width for i, _ in shown]
        colour, whiskers = _COLOURS[place % len(_COLOURS)], {"elinewidth": 1, "ecolor": "#444444", "capsize": 2}
        axes.bar(at, values, width, yerr=errors, error_kw=whiskers, color=colour, label=_label(model, place))
    ticks = []
    for name in names:
        count = max(results.get(group, {}).get(name, {}).get("num_records", 0) for results in models.values())
        ticks.append(f"{name}\nn={count}")
    axes.set_xticks(range(len(names)), ticks)
    axes.set(xlabel=label, ylabel="answer accuracy (%), 95% interval", ylim=(0, 105))
    if len(models) > 1:
        _legend(axes)
    return _png(figure)


def _legend(axes: "Axes") -> None:
    """Above the plot, where it hides nothing."""
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def _length_plot(models: Models) -> bytes:
    """One model: a histogram, closed and open thoughts stacked. Several: the share that is done by then.

    Models have bins of their own, so that their histograms could not be compared.
    """
    figure, axes = _new_axes()
    for place, (model, results) in enumerate(models.items()):
        histogram = results["reasoning_length"]["histogram"]
        edges, closed, open_ = histogram["edges"], histogram["closed"], histogram["open"]
        if len(models) == 1:
            widths = edges[1] - edges[0]
            axes.bar(edges[:-1], closed, widths, align="edge", color=_COLOURS[0], label="thought closed")
            if any(open_):
                axes.bar(edges[:-1], open_, widths, closed, align="edge", color=_COLOURS[3], label="not closed")
            axes.set_ylabel("outputs")
        else:
            total = sum(closed) + sum(open_) or 1
            done = [100 * count / total for count in itertools.accumulate(closed, initial=0)]
            axes.plot(edges, done, label=_label(model, place), color=_COLOURS[place % len(_COLOURS)], linewidth=2)
            axes.set(ylabel="outputs with a closed thought (%)", ylim=(0, 105))
    axes.set(xlabel="reasoning length (tokens until the answer)", xlim=(0, None))
    _legend(axes)
    return _png(figure)


def draw_plots(models: Models) -> dict[str, bytes]:
    """The plots of one or several models as PNG files, by name."""
    return {
        "accuracy_by_num_steps": _accuracy_plot(models, "by_num_steps", "steps of the reference"),
        "accuracy_by_domain": _accuracy_plot(models, "by_domain", "domain"),
        "reasoning_length": _length_plot(models),
    }
