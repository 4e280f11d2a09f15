"""Records for a further round of training: new ones that are really new, and a share of the old ones."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .record import DataError

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class ReplayMix:
    """The training records of a round.

    Attributes:
        records: New and replayed ones, shuffled.
        new, replayed: How many of each domain.
        known: New records that the old data hold already, or that came twice; left out.
        leaked: New and replayed records that are in a test split; left out.
    """

    records: "Dataset"
    new: dict[str, int] = field(default_factory=dict)
    replayed: dict[str, int] = field(default_factory=dict)
    known: int = 0
    leaked: int = 0

    def __str__(self) -> str:
        def listed(counts: dict[str, int]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"

        return (
            f"{len(self.records)} training records: new {sum(self.new.values())} ({listed(self.new)}), replayed "
            f"{sum(self.replayed.values())} ({listed(self.replayed)}); left out {self.known} known and {self.leaked} "
            "of a test split"
        )


def mix_replay(
    new: "Dataset", old: "Dataset", share: float, *, tests: "tuple[Dataset, ...]" = (), seed: int = 0
) -> ReplayMix:
    """New records with old ones among them, so that the old is not forgotten (experience replay).

    The replayed ones are drawn without replacement, each domain in proportion to what the old data hold of it. If the
    old data have fewer than the share asks for, all of them are taken.

    Args:
        new: Records of this round.
        old: Training records of the rounds before.
        share: Share of replayed records among all, in [0, 1).
        tests: Splits that are evaluated on; what they hold is not trained on.
        seed: Of the draw and of the order.

    Raises:
        DataError: if the share is out of range, or no new record is left.
    """
    from datasets import concatenate_datasets

    if not 0 <= share < 1:
        raise DataError(f"replay_share must be at least 0 and below 1, got {share}.")
    tested = {name for split in tests for name in split["id"]}
    before = set(old["id"])
    kept = [row for row, name in enumerate(old["id"]) if name not in tested]
    fresh, known, leaked = [], 0, 0
    for row, name in enumerate(new["id"]):
        if name in tested:
            leaked += 1
        elif name in before:
            known += 1
        else:
            before.add(name)
            fresh.append(row)
    if not fresh:
        raise DataError(
            f"There is nothing new to learn: of {len(new)} new records the old data hold {known} already, and "
            f"{leaked} are in a test split. Give other records."
        )
    leaked += len(old) - len(kept)
    chosen, old = new.select(fresh), old.select(kept)
    wanted = min(round(len(fresh) * share / (1 - share)), len(old))
    replayed = old.select(_even_draw(list(old["domain"]), wanted, seed))
    records = concatenate_datasets([chosen, replayed]).shuffle(seed=seed)
    return ReplayMix(records, _counted(chosen), _counted(replayed), known, leaked)


def _counted(records: "Dataset") -> dict[str, int]:
    return dict(sorted(Counter(records["domain"]).items()))


def _even_draw(domains: list[str], count: int, seed: int) -> list[int]:
    """`count` rows, each domain in proportion (largest remainders), drawn by `seed`."""
    import random

    rows: dict[str, list[int]] = {}
    for row, domain in enumerate(domains):
        rows.setdefault(domain, []).append(row)
    exact = {domain: count * len(found) / max(len(domains), 1) for domain, found in sorted(rows.items())}
    counts = {domain: int(value) for domain, value in exact.items()}
    order = sorted(exact, key=lambda domain: (counts[domain] - exact[domain], domain))
    for domain in order[: count - sum(counts.values())]:
        counts[domain] += 1
    rng = random.Random(seed)
    return sorted(row for domain, found in sorted(rows.items()) for row in rng.sample(found, counts[domain]))
