"""What a run says: its progress with tokens, cost and time left, and its counts at the end."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .selection import BINS

_BAR = 24


def cost_of(usage: Mapping[str, int], prices: Sequence[float] | None) -> float | None:
    """What tokens cost.

    Args:
        usage: `prompt_tokens` and `completion_tokens`.
        prices: Of a million of each; `None`: not known.
    """
    if not prices:
        return None
    return (usage["prompt_tokens"] * prices[0] + usage["completion_tokens"] * prices[1]) / 1e6


class ProgressLine:
    """A line with samples, tokens, cost and time left.

    Args:
        total: Samples.
        done: Those that were there before.
        prices: See `cost_of`.
    """

    def __init__(self, total: int, done: int, prices: Sequence[float] | None = None) -> None:
        from tqdm import tqdm

        self.prices, self.usage = prices, {"prompt_tokens": 0, "completion_tokens": 0}
        self.samples = done
        # on a terminal at once, in a log every ten seconds
        interval = 0.5 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(total=total, initial=done, desc="Traces", unit=" samples", mininterval=interval)

    def __call__(self, row: Mapping[str, Any] | None) -> None:
        """A new sample; `None`: the end."""
        if row is None:
            self.bar.close()
            return
        self.samples += 1
        for name in self.usage:
            self.usage[name] += int(row.get(name) or 0)
        cost = cost_of(self.usage, self.prices)
        said = f"{sum(self.usage.values()):,} tokens" + ("" if cost is None else f", cost {cost:.4g}")
        self.bar.set_postfix_str(said, refresh=False)
        self.bar.update()


def format_report(report: Mapping[str, Any], prices: Sequence[float] | None = None) -> str:
    """The counts of a run for a terminal."""
    counts, usage = report["counts"], report["usage"]
    samples = max(counts["samples"], 1)

    def row(name: str, what: str) -> str:
        return f"  {what:<28}{counts[name]:>9,}  {counts[name] / samples:6.1%}"

    lines = [
        f"{counts['problems']:,} problems, {counts['solved']:,} of them solved; {counts['samples']:,} samples of "
        f"{report['teacher']}:",
        row("verified", "verified"),
        row("wrong_answer", "wrong answer"),
        row("wrong_step", "right answer, wrong step"),
        row("undecidable", "undecidable"),
        row("never_closed", "never closed"),
    ]
    cost = cost_of(usage, prices)
    spent = "" if cost is None else f"; cost {cost:.4g}"
    lines.append(
        f"Tokens: {usage['prompt_tokens']:,} of prompts, {usage['completion_tokens']:,} of completions{spent}; "
        f"{report['mean_tokens']:.0f} a sample, {report['mean_tokens_kept']:.0f} a kept one."
    )
    lines.append("Pass rate of the problems:")
    largest = max(report["pass_rate"].values(), default=0) or 1
    for name in BINS:
        count = report["pass_rate"][name]
        if count or name != BINS[-1]:
            lines.append(f"  {name:>10} {count:>8,} {'#' * round(_BAR * count / largest)}".rstrip())
    kept = f"Kept: {counts['kept']:,} traces"
    for name, what in (("equal", "samples were equal to another one"), ("without_steps", "samples had no steps")):
        if counts[name]:
            kept += f"; {counts[name]:,} {what}"
    if report["settings"]["prune_steps"]:
        kept += f", {counts['pruned_steps']:,} steps left out"
    if report["settings"]["pairs"]:
        kept += f"; {counts['pairs']:,} pairs"
    lines.append(kept + ".")
    if report["missing_samples"]:
        said = max(report["failures"], key=report["failures"].get, default="")
        why = f" Most often: {said}" if said else ""
        lines.append(
            f"Warning: {report['missing_samples']:,} samples are missing; the same command asks for them again.{why}"
        )
    return "\n".join(lines)
