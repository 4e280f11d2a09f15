"""Draw the masks of StepReasoner for a short example, from the model's own rules.

python docs/draw_step_mask.py docs/step_mask.png
"""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Patch, Rectangle

from hf_reason.models.step_reasoner.layout_step_reasoner import Layout, Stream, lay_out
from hf_reason.models.step_reasoner.masks_step_reasoner import decoder_rule, encoder_rule, reasoner_rule

TOKENS = ["3", "apples", "+4", "?", "<think>", "add", "↵", "3+4", "=", "7", "↵", "so", "7"]
PROMPT, CHAIN, SLOT, OWN = "#4C78A8", "#F58518", "#54A24B", "#7E57A8"
CELL = 0.3  # inches


def example() -> Layout:
    """Its layout: "<think>" begins the chain, "↵" ends a step, "=" is a trigger, one slot a piece."""
    vocabulary = sorted(set(TOKENS))
    ids = torch.tensor([[vocabulary.index(token) for token in TOKENS]])
    return lay_out(
        ids,
        torch.arange(len(TOKENS))[None],
        None,
        None,
        thought_start=[vocabulary.index("<think>")],
        ends=[vocabulary.index("↵"), vocabulary.index("=")],
        max_piece_length=0,
        plan_slots=1,
    )


def entries(stream: Stream, colour: str) -> list[tuple[str, str, int]]:
    """Label, colour and rank of every entry."""
    ranks = stream.rank[0].tolist()
    if colour == SLOT:
        return [(f"plan {rank // 2 + 1}", colour, rank) for rank in ranks]
    return [(TOKENS[index], colour, rank) for index, rank in zip(stream.index[0].tolist(), ranks, strict=True)]


def by_rank(items: list) -> list[int]:
    """The order in which the entries become known: the slot of a piece before its tokens."""
    return sorted(range(len(items)), key=lambda i: items[i][2])


def draw(axes, title: str, rule, rows: list, columns: list, row_order: list[int], column_order: list[int]) -> None:
    """One panel: a filled cell where the query of the row sees the key of the column, in the key's colour."""
    for y, query in enumerate(row_order):
        for x, key in enumerate(column_order):
            indices = (torch.tensor(i) for i in (0, 0, query, key))
            seen = bool(rule(*indices))
            face = columns[key][1] if seen else "#F1F1F1"
            axes.add_patch(Rectangle((x, y), 1, 1, facecolor=face, edgecolor="white", linewidth=1.2))
    for order, items, line in ((row_order, rows, axes.axhline), (column_order, columns, axes.axvline)):
        for place in range(1, len(order)):
            before, after = items[order[place - 1]], items[order[place]]
            # a slot belongs to the piece that it opens
            if (before[2] + 1) // 2 != (after[2] + 1) // 2 or (before[1] == OWN) != (after[1] == OWN):
                line(place, color="#444444", linewidth=0.9, zorder=3)
    axes.set(xlim=(0, len(column_order)), ylim=(len(row_order), 0), aspect="equal")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=8)
    axes.set_xticks([i + 0.5 for i in range(len(column_order))])
    axes.set_xticklabels([columns[i][0] for i in column_order], rotation=90, fontsize=9)
    axes.set_yticks([i + 0.5 for i in range(len(row_order))])
    axes.set_yticklabels([rows[i][0] for i in row_order], fontsize=9)
    for labels, order, items in (
        (axes.get_xticklabels(), column_order, columns),
        (axes.get_yticklabels(), row_order, rows),
    ):
        for label, number in zip(labels, order, strict=True):
            label.set_color(items[number][1])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def main(path: str) -> None:
    layout = example()
    prompt, chain, slots = layout.prompt, layout.chain, layout.slots
    prompts, chains, plans = entries(prompt, PROMPT), entries(chain, CHAIN), entries(slots, SLOT)
    own = entries(chain, OWN)
    read, known = chains + plans, prompts + chains + plans
    read_stream, known_stream = chain + slots, prompt + chain + slots
    everything = known + own
    decoder_columns = by_rank(known) + list(range(len(known), len(everything)))

    def size(cells: int, whole: float) -> float:
        return cells * CELL / whole

    width = (len(everything) + 6.5) * CELL
    height = (len(read) + len(own) + 9) * CELL
    figure = plt.figure(figsize=(width, height))
    top = 1 - size(len(read) + 1.5, height)

    def panel(left: float, bottom: float, columns: int, rows: int):
        return figure.add_axes((left, bottom, size(columns, width), size(rows, height)))

    first = size(4, width)
    reasoner_left = first + size(len(prompts) + 7.7, width)
    below_title = top + size(len(read) - len(prompts), height)
    draw(
        panel(first, below_title, len(prompts), len(prompts)),
        "Encoder: the prompt",
        encoder_rule(prompt, None),
        prompts,
        prompts,
        list(range(len(prompts))),
        list(range(len(prompts))),
    )
    draw(
        panel(reasoner_left, top, len(known), len(read)),
        "Reasoner: everything up to the end of its own piece",
        reasoner_rule(read_stream, known_stream),
        read,
        known,
        by_rank(read),
        by_rank(known),
    )
    bottom = size(2.7, height)
    draw(
        panel(first, bottom, len(everything), len(own)),
        "Decoder: the pieces before that of the token to come (left), its own tokens so far (right)",
        decoder_rule(layout.asks, known_stream + chain, len(known)),
        own,
        everything,
        list(range(len(own))),
        decoder_columns,
    )
    figure.legend(
        handles=[
            Patch(color=PROMPT, label="the encoder's state of a prompt token"),
            Patch(color=CHAIN, label="the reasoner's state of a chain token"),
            Patch(color=SLOT, label="the reasoner's state of a plan slot"),
            Patch(color=OWN, label="the decoder's own state of a token"),
            Patch(color="#F1F1F1", label="not seen"),
        ],
        loc="upper left",
        bbox_to_anchor=(size(1, width), top + size(6, height)),
        fontsize=9,
        frameon=False,
    )
    figure.savefig(path, dpi=130, facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs/step_mask.png")
