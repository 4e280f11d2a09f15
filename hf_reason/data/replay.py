"""Records for a further round of training: new ones that are not known yet, and some of the old ones."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hf_reason._numbers import largest_remainders
from hf_reason._renamed import renamed

from .record import DataError, with_equal_columns

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class ReplayMix:
    """The training records of a round.

    Attributes:
        records: New and replayed ones, shuffled.
        new, replayed: How many of each domain.
        known: New records that are in the old data already, or occur twice; left out.
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


@renamed(share="replay_ratio", replay_share="replay_ratio")
def mix_replay(
    new: "Dataset", old: "Dataset", replay_ratio: float, *, tests: "tuple[Dataset, ...]" = (), seed: int = 0
) -> ReplayMix:
    """Mix old records into new ones, so that what was learned from the old is not forgotten (experience replay).

    The replayed records are drawn without replacement, each domain in proportion to its size in the old data. If the
    old data have fewer records than the ratio needs, all of them are used.

    Args:
        new: Records of this round.
        old: Training records of the rounds before.
        replay_ratio: Fraction of replayed records among all, in [0, 1).
        tests: Splits used for evaluation; their records are left out.
        seed: Seed of the draw and of the order.

    Raises:
        DataError: if the ratio is out of range, or no new record is left.
    """
    from datasets import concatenate_datasets

    if not 0 <= replay_ratio < 1:
        raise DataError(f"replay_ratio must be at least 0 and below 1, got {replay_ratio}.")
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
            f"There is nothing new to learn: of {len(new)} new records {known} are in the old data "
            f"already and {leaked} are in a test split. Give other records."
        )
    leaked += len(old) - len(kept)
    chosen, old = new.select(fresh), old.select(kept)
    wanted = min(round(len(fresh) * replay_ratio / (1 - replay_ratio)), len(old))
    replayed = old.select(_even_draw(list(old["domain"]), wanted, seed))
    records = concatenate_datasets(with_equal_columns([chosen, replayed])).shuffle(seed=seed)
    return ReplayMix(records, _counted(chosen), _counted(replayed), known, leaked)


def _counted(records: "Dataset") -> dict[str, int]:
    return dict(sorted(Counter(records["domain"]).items()))


def _even_draw(domains: list[str], count: int, seed: int) -> list[int]:
    """`count` rows, each domain in proportion (largest remainders), drawn by `seed`."""
    import random

    rows: dict[str, list[int]] = {}
    for row, domain in enumerate(domains):
        rows.setdefault(domain, []).append(row)
    domains_in_order = sorted(rows)
    counts = largest_remainders(count, [len(rows[domain]) for domain in domains_in_order]) if rows else []
    rng = random.Random(seed)
    drawn = (rng.sample(rows[domain], wanted) for domain, wanted in zip(domains_in_order, counts, strict=True))
    return sorted(row for sample in drawn for row in sample)
