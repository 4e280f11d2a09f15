"""What a model forgets over rounds of training: measures, table, plot, and the guard before a model is published."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically

from .result import EvaluationResult
from .scoring import mean, wilson_interval

HISTORY_FILE = "history.json"


class ForgettingError(ValueError):
    """A model that forgot more of an old domain than is allowed. The message says of what, and what to do."""


@dataclass(frozen=True)
class Round:
    """The accuracy after one round.

    Attributes:
        name: Of the round; the first is the model that the rounds begin with.
        learned: Domains that it was trained on for the first time.
        accuracy: Answer accuracy of each domain that was measured, in [0, 1].
        records: Test records of each.
        other_mode: Answer accuracy in the mode that is not trained (without thinking, as a rule), of a model that has
            both.
    """

    name: str
    learned: tuple[str, ...]
    accuracy: dict[str, float]
    records: dict[str, int]
    other_mode: dict[str, float] = field(default_factory=dict)


Results = EvaluationResult | Mapping[str, Any]


def round_from(name: str, learned: Iterable[str], results: Results, other: Results | None = None) -> Round:
    """A round from what `evaluate_model` returns, or its dictionary; a domain without a figure is left out.

    Args:
        name: Of the round.
        learned: Domains that it was trained on for the first time.
        results: In the mode that is trained.
        other: In the other mode of a hybrid model.
    """
    groups = EvaluationResult.from_dict(results).by_domain
    measured = _accuracies(results)
    records = {domain: int(groups[domain].num_records) for domain in measured}
    return Round(name, tuple(sorted(learned)), measured, records, {} if other is None else _accuracies(other))


def _accuracies(results: Results) -> dict[str, float]:
    groups = EvaluationResult.from_dict(results).by_domain
    return {name: float(group.answer_accuracy) for name, group in groups.items() if group.answer_accuracy is not None}


def forgetting_figures(rounds: Sequence[Round]) -> dict[str, float | None]:
    """Three figures of a history, over the domains that were learned before the last round.

    With `R[i][j]` the accuracy on domain j after round i, domain j learned in round `l(j)` and T the last round:

    - `backward_transfer`: mean of `R[T][j] - R[l(j)][j]` (Lopez-Paz and Ranzato 2017); below 0 is forgetting.
    - `forgetting`: mean of `max over i < T of R[i][j], minus R[T][j]` (Chaudhry et al. 2018).
    - `average_accuracy`: mean of `R[T][j]` over all domains measured.

    `None` where nothing can be said.
    """
    last = rounds[-1]
    old = [
        (entry.accuracy[domain], max(r.accuracy[domain] for r in rounds[:-1] if domain in r.accuracy), domain)
        for entry in rounds[:-1]
        for domain in entry.learned
        if domain in entry.accuracy and domain in last.accuracy
    ]
    return {
        "backward_transfer": mean(last.accuracy[domain] - then for then, _, domain in old),
        "forgetting": mean(best - last.accuracy[domain] for _, best, domain in old),
        "average_accuracy": mean(last.accuracy.values()),
    }


def check_drops(
    before: Round, after: Round, domains: Iterable[str], max_drop: float, other: str = "in the other mode"
) -> None:
    """Refuse a model that lost too much, in one mode or the other.

    Args:
        before: Accuracy of the model that the round began with.
        after: Accuracy now.
        domains: The old ones.
        max_drop: Points (percent) that the accuracy of one may fall by.
        other: The other mode in words, for the message.

    Raises:
        ForgettingError: if one fell by more.
    """
    old = set(domains)
    fallen = [
        *_fallen(before.accuracy, after.accuracy, after.records, old, max_drop),
        *_fallen(before.other_mode, after.other_mode, after.records, old, max_drop, f" {other}"),
    ]
    if fallen:
        modes = f"mix records of the mode that fell ({other}) into the new ones, " if after.other_mode else ""
        raise ForgettingError(
            f"The model is not published: it forgot more than max_drop={max_drop:g} points of {'; '.join(fallen)}. It "
            f"stays in the output folder. Raise replay_ratio, {modes}lower learning_rate or the steps and train in "
            "another output_dir, or raise max_drop and run the same command again."
        )


def _fallen(
    before: Mapping[str, float],
    after: Mapping[str, float],
    records: Mapping[str, int],
    domains: set[str],
    max_drop: float,
    mode: str = "",
) -> Iterator[str]:
    """A phrase for each domain that lost more than `max_drop` points."""
    for domain in sorted(domains & before.keys() & after.keys()):
        then, now = before[domain], after[domain]
        if 100 * (then - now) > max_drop + 1e-9:
            low, high = wilson_interval(now, records[domain])
            yield (
                f"{domain}{mode} {100 * then:.1f}% -> {100 * now:.1f}%, {100 * (then - now):.1f} points (now 95% "
                f"interval {100 * low:.1f}-{100 * high:.1f}, {records[domain]} records)"
            )


def format_history(rounds: Sequence[Round]) -> str:
    """The accuracy of each domain after each round, and the figures of the last."""
    domains = sorted({domain for entry in rounds for domain in entry.accuracy})
    width = max(12, *(len(domain) + 2 for domain in domains))

    def row(name: str, accuracy: Mapping[str, float]) -> str:
        cells = [f"{100 * accuracy[d]:.1f}%" if d in accuracy else "-" for d in domains]
        return f"{name[:23]:<24}" + "".join(f"{cell:>{width}}" for cell in cells)

    lines = [f"{'round':<24}" + "".join(f"{domain:>{width}}" for domain in domains) + "  learned"]
    for entry in rounds:
        lines.append(f"{row(entry.name, entry.accuracy)}  {', '.join(entry.learned)}".rstrip())
        if entry.other_mode:
            lines.append(row("  the other mode", entry.other_mode))
    figures = [
        f"{name.replace('_', ' ')} {100 * value:+.1f} points"
        if name != "average_accuracy"
        else f"average accuracy {100 * value:.1f}%"
        for name, value in forgetting_figures(rounds).items()
        if value is not None
    ]
    return "\n".join([*lines, "; ".join(figures)])


def history_plot(rounds: Sequence[Round]) -> bytes:
    """The accuracy of each domain over the rounds, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 1.4 * len(rounds) + 2), 4.0), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    for domain in sorted({domain for entry in rounds for domain in entry.accuracy}):
        places = [place for place, entry in enumerate(rounds) if domain in entry.accuracy]
        values = [100 * rounds[place].accuracy[domain] for place in places]
        (line,) = axes.plot(places, values, marker="o", label=domain)
        learned = [place for place in places if domain in rounds[place].learned]
        axes.plot(
            learned,
            [100 * rounds[place].accuracy[domain] for place in learned],
            linestyle="none",
            marker="o",
            markersize=11,
            markerfacecolor="none",
            color=line.get_color(),
        )
        others = [place for place, entry in enumerate(rounds) if domain in entry.other_mode]
        axes.plot(
            others,
            [100 * rounds[place].other_mode[domain] for place in others],
            linestyle="--",
            marker=".",
            color=line.get_color(),
        )
    axes.set_xticks(range(len(rounds)), [f"round {place}" if place else "before" for place in range(len(rounds))])
    axes.set_ylim(0, 102)
    axes.set_ylabel("answer accuracy (%)")
    dashed = "; dashed: the other mode" if any(entry.other_mode for entry in rounds) else ""
    axes.set_title(f"circled: the round that learned the domain{dashed}", fontsize=9)
    axes.legend(frameon=False)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()


def save_history(folder: str | os.PathLike[str], rounds: Sequence[Round]) -> None:
    """Write `history.json` and `history.png`; each appears whole or not at all."""
    values = {"rounds": [asdict(entry) for entry in rounds], "figures": forgetting_figures(rounds)}
    text = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    for name, content in ((HISTORY_FILE, text.encode("utf-8")), ("history.png", history_plot(rounds))):
        write_atomically(Path(folder, name), content)


def load_history(folder: str | os.PathLike[str]) -> list[Round]:
    """The rounds that led to a model; an empty list if its folder has no history.

    Raises:
        ValueError: if the file is broken.
    """
    path = Path(folder, HISTORY_FILE)
    if not path.is_file():
        return []
    try:
        rounds = json.loads(path.read_text(encoding="utf-8"))["rounds"]
        return [
            Round(r["name"], tuple(r["learned"]), r["accuracy"], r["records"], r.get("other_mode") or {})
            for r in rounds
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is broken ({error}). Restore it, or remove it to begin a new history.") from error
