"""The picture of the preparation's report (English labels, since fonts with Chinese may be missing)."""

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN, _GREY = "#3b6fb6", "#e08e3c", "#4f9d69", "#b8bec7"
_SPLIT_COLOURS = {"train": _BLUE, "validation": _ORANGE, "test": _GREEN}
# A histogram shows the space of at least this many bins.
_FEWEST_BINS = 7
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
}


def draw_report(report: dict[str, Any]) -> bytes:
    """Draw the report as a PNG; the same report gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(13, 7.6), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3)
        counts = report["counts"]
        figure.suptitle(
            f"{counts['in']:,} traces read, {counts['out']:,} records kept", fontsize=13, fontweight="bold"
        )
        _draw_counts(axes[0, 0], counts)
        _draw_histogram(axes[0, 1], report, "steps", "Steps per chain", "steps")
        _draw_histogram(axes[0, 2], report, "chain", "Length of the chain", "characters")
        _draw_domains(axes[1, 0], report)
        _draw_languages(axes[1, 1], report)
        _draw_histogram(axes[1, 2], report, "context", "Length of the context", "characters")
        buffer = io.BytesIO()
        # Without this the file would carry matplotlib's version.
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _bars(axis: "Axes", names: list[str], parts: list[tuple[str, list[int], Any]], legend: bool = False) -> None:
    """Stacked horizontal bars, the first name on top, each with its total and its percentage of all."""
    totals = [sum(values) for values in zip(*(values for _, values, _ in parts), strict=True)]
    left = [0] * len(names)
    for name, values, colour in parts:
        axis.barh(names, values, left=left, color=colour, label=name, height=0.7)
        left = [a + b for a, b in zip(left, values, strict=True)]
    everything = sum(totals) or 1
    longest = max(totals, default=0) or 1
    for row, total in enumerate(totals):
        axis.text(total + longest * 0.015, row, f"{total:,}  ({total / everything:.1%})", va="center", fontsize=8)
    axis.set_xlim(0, longest * 1.32)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    if legend:
        # Above the axis: the bars and their totals may reach any corner of it.
        axis.legend(loc="lower right", bbox_to_anchor=(1, 0.99), ncols=len(parts), frameon=False, fontsize=8)


def _draw_counts(axis: "Axes", counts: dict[str, Any]) -> None:
    axis.set_title("Traces kept and dropped")
    dropped = {reason: count for reason, count in counts["filters"].items() if count}
    names = ["kept", *(reason.replace("_", " ") for reason in dropped)]
    _bars(axis, names, [("", [counts["out"], *dropped.values()], [_GREEN, *([_GREY] * len(dropped))])])


def _draw_domains(axis: "Axes", report: dict[str, Any]) -> None:
    axis.set_title("Domains")
    rows = sorted(report["domains"].items(), key=lambda item: -item[1]["all"])
    parts = [
        (split, [counts[split] for _, counts in rows], _SPLIT_COLOURS[split])
        for split in report["splits"]
        if report["counts"]["out"]
    ]
    if not parts:
        return _nothing(axis)
    _bars(axis, [name for name, _ in rows], parts, legend=True)


def _draw_languages(axis: "Axes", report: dict[str, Any]) -> None:
    axis.set_title("Languages and splits")
    if not report["counts"]["out"]:
        return _nothing(axis)
    languages, splits = report["languages"], report["splits"]
    total = report["counts"]["out"]
    names = [*languages, " ", *splits]
    values = [*languages.values(), 0, *splits.values()]
    colours = ["#7a6fb0"] * len(languages) + [_GREY] + [_SPLIT_COLOURS[name] for name in splits]
    axis.barh(range(len(names)), values, color=colours, height=0.7)
    for row, value in enumerate(values):
        if names[row].strip():
            axis.text(value + total * 0.015, row, f"{value:,}  ({value / total:.1%})", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlim(0, max(values) * 1.32)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _draw_histogram(axis: "Axes", report: dict[str, Any], measure: str, title: str, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_title(title)
    found = report["distributions"][measure]
    if not found:
        return _nothing(axis)
    edges, counts, over = (found["histogram"][key] for key in ("edges", "counts", "over"))
    width = edges[1] - edges[0]
    shift = 0.5 if width == 1 else 0  # a bar of one value is centred on its number
    edges = [edge - shift for edge in edges]
    axis.bar(edges[:-1], counts, width=width * 0.92, align="edge", color=_BLUE)
    if over:
        axis.bar(edges[-1] + width * 0.5, over, width=width * 0.92, align="edge", color=_GREY)
        axis.annotate(
            f"{over:,} beyond, up to {found['max']:,}",
            (edges[-1] + width * 1.4, max(over, *counts[len(counts) // 2 :])),
            textcoords="offset points",
            xytext=(2, 4),
            ha="right",
            fontsize=8,
            color="#555555",
        )
    axis.axvline(found["p50"], color=_ORANGE, linewidth=1.4)
    axis.annotate(
        f"median {found['p50']:,}",
        (found["p50"], 1),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        xytext=(4, -4),
        va="top",
        fontsize=8,
        color=_ORANGE,
    )
    missing = _FEWEST_BINS - len(counts)
    if missing > 0:  # a single value would fill the axis, and every tick would be that value
        left, right = axis.get_xlim()
        axis.set_xlim(left - missing * width / 2, right + missing * width / 2)
    axis.set_ylim(0, max(over, *counts) * 1.12)
    axis.set_xlabel(unit)
    axis.set_ylabel("records")
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 2.5, 5, 10]))
        line.set_major_formatter("{x:,.0f}")


def _nothing(axis: "Axes") -> None:
    axis.axis("off")
    axis.text(0.5, 0.5, "no records", ha="center", va="center", color="#777777", transform=axis.transAxes)
