"""Draw `pipeline.png`: the way of the data and the two architectures.

python docs/draw_pipeline.py docs/pipeline.png

The background is transparent; every text stands in a filled box or has a grey that is legible on white and on dark.
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

GREY, WHITE = "#7d8590", "#ffffff"
BLUE, GREEN, PURPLE, ORANGE, TEAL, OFF = "#1f6feb", "#238636", "#8250df", "#bc4c00", "#0a7d91", "#6e7781"


def box(ax: Axes, x: float, y: float, width: float, height: float, color: str, title: str, below: str = "") -> None:
    """A filled box with its lower left corner at (x, y), a bold title and, under it, smaller lines."""
    shape = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.8", fc=color, ec="none")
    ax.add_patch(shape)
    lines = below.count("\n") + 1 if below else 0
    middle = y + height / 2
    ax.text(
        x + width / 2, middle + 0.95 * lines, title, color=WHITE, ha="center", va="center", size=10.5, weight="bold"
    )
    if below:
        ax.text(x + width / 2, middle - 1.25, below, color=WHITE, ha="center", va="center", size=8, linespacing=1.25)


def arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0, style: str = "-|>"
) -> None:
    path = FancyArrowPatch(
        start, end, arrowstyle=style, mutation_scale=12, color=GREY, lw=1.5, connectionstyle=f"arc3,rad={bend}"
    )
    ax.add_patch(path)


def note(ax: Axes, x: float, y: float, text: str, size: float = 8.5, **options: object) -> None:
    ax.text(x, y, text, **({"color": GREY, "ha": "center", "va": "center", "size": size} | options))  # type: ignore[arg-type]


def draw_pipeline(ax: Axes) -> None:
    """The upper row: from raw traces to an answer, with the command of each stage."""
    y, height, width, gap = 45, 8.5, 16.9, 4.1
    stages = [
        (TEAL, "raw traces", "JSON, Parquet, CSV,\nfolders, the Hub"),
        (TEAL, "prepare", "27 layouts, 12 filters,\ndeduplication, splits"),
        (BLUE, "train", "sft, distill, lora,\nloar, continual"),
        (GREEN, "evaluate", "every step checked;\nreport, model card"),
        (GREEN, "ask", "thought budget,\nvotes; the Hub"),
    ]
    left = [1 + index * (width + gap) for index in range(len(stages))]
    for x, (color, title, below) in zip(left, stages, strict=True):
        box(ax, x, y, width, height, color, title, below)
    for x in left[:-1]:
        arrow(ax, (x + width + 0.3, y + height / 2), (x + width + gap - 0.3, y + height / 2))
    for x, text in zip(
        left[1:4], ("records:\ncontext, steps, answer", "token weights,\nspans of each step", ""), strict=True
    ):
        note(ax, x - gap / 2, y + height + 2.3, text, size=7.5)
    arrow(ax, (left[4] + width / 2, y - 0.5), (left[2] + width / 2, y - 0.5), bend=-0.16)
    note(
        ax,
        (left[2] + left[4] + width) / 2,
        y - 5.0,
        "feedback: continual, with replay and a guard against forgetting",
        size=8,
    )


def draw_step_reasoner(ax: Axes) -> None:
    x, y = 1.0, 3.0
    note(ax, x, y + 32.2, "StepReasoner", size=12, color=PURPLE, weight="bold", ha="left")
    note(ax, x + 15.4, y + 32.1, "three stacks, one causal language model", ha="left")
    box(ax, x, y + 20, 12.5, 9, PURPLE, "encoder", "12 layers,\nonce per prompt")
    box(ax, x + 16.5, y + 20, 12.5, 9, PURPLE, "reasoner", "6 layers,\nonce per piece")
    box(ax, x + 33, y + 20, 12.5, 9, PURPLE, "decoder", "3 layers,\nonce per token")
    arrow(ax, (x + 12.8, y + 24.5), (x + 16.2, y + 24.5))
    arrow(ax, (x + 29.3, y + 24.5), (x + 32.7, y + 24.5))
    arrow(ax, (x + 6.2, y + 29.3), (x + 38.5, y + 29.3), bend=-0.07)
    parts = [
        (0, 12.5, TEAL, "prompt"),
        (16.5, 7.5, ORANGE, "step 1"),
        (24.5, 7.5, ORANGE, "step 2"),
        (32.5, 13, OFF, "step 3 ..."),
    ]
    for shift, width, color, text in parts:
        ax.add_patch(Rectangle((x + shift, y + 9), width, 4, fc=color, ec="none"))
        ax.text(x + shift + width / 2, y + 11, text, color=WHITE, ha="center", va="center", size=8.5, weight="bold")
    arrow(ax, (x + 6.2, y + 13.3), (x + 6.2, y + 19.7))
    arrow(ax, (x + 20.2, y + 13.3), (x + 21.4, y + 19.7))
    arrow(ax, (x + 28.2, y + 13.3), (x + 25.2, y + 19.7))
    arrow(ax, (x + 39, y + 13.3), (x + 39, y + 19.7))
    note(
        ax,
        x,
        y + 5.8,
        "The reasoner reads finished pieces only: no token sees what depends on a later one.",
        ha="left",
    )
    note(
        ax, x, y + 2.6, "A token of the chain costs 9 of 21 layers in training, 3 in a row when generated.", ha="left"
    )


def draw_loar(ax: Axes) -> None:
    x, y = 54.0, 3.0
    note(ax, x, y + 32.2, "LoAR", size=12, color=ORANGE, weight="bold", ha="left")
    note(ax, x + 6.2, y + 32.1, "an adapter on a decoder-only model", ha="left")
    box(ax, x, y + 20, 10, 9, TEAL, "prompt", "its states,\nnot the answer")
    box(ax, x + 13.5, y + 20, 10, 9, ORANGE, "router", "one per layer,\none choice")
    arrow(ax, (x + 10.3, y + 24.5), (x + 13.2, y + 24.5))
    arrow(ax, (x + 23.8, y + 24.5), (x + 26.7, y + 24.5))
    note(ax, x + 35.6, y + 30.3, "key/value groups", size=8.5)
    rows = [
        ("deep", (1, 0, 0, 1), "everything"),
        ("", (0, 1, 0, 1), ""),
        ("", (1, 1, 1, 0), ""),
        ("shallow", (1, 1, 1, 1), "window"),
    ]
    for row, (name, working, reach) in enumerate(rows):
        top = y + 26 - 4.6 * row
        for group, works in enumerate(working):
            color = ORANGE if works else OFF
            ax.add_patch(
                Rectangle((x + 29.5 + 3.2 * group, top), 2.7, 3.2, fc=color, ec="none", alpha=1 if works else 0.35)
            )
        if name:
            note(ax, x + 28.8, top + 1.6, name, size=7.5, ha="right", va="center")
        if reach:
            note(ax, x + 43.0, top + 1.6, reach, size=7.5, ha="left", va="center")
    note(ax, x, y + 5.8, "Groups that do not work are neither computed nor cached.", ha="left")
    note(ax, x, y + 2.6, "Works beside a LoRA; saved in one small file beside the base.", ha="left")


def main(target: str) -> None:
    figure = plt.figure(figsize=(11, 6.2))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, 103)
    ax.set_ylim(2, 60)
    ax.axis("off")
    draw_pipeline(ax)
    draw_step_reasoner(ax)
    draw_loar(ax)
    figure.savefig(target, dpi=170, transparent=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/pipeline.png")
