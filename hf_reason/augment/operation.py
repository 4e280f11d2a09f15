"""An operation: what it makes of a record, of which records, and what is written down about it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hf_reason._files import digest

if TYPE_CHECKING:
    from datasets import Features

# The column of an augmented data set: the operations that a record comes from, the first one first.
PROVENANCE = "provenance"


@dataclass(frozen=True)
class Made:
    """What an operation has made of a record.

    Attributes:
        row: A record, or a row of the operation's own file.
        detail: What was done, in a few words.
    """

    row: dict[str, Any]
    detail: str


@dataclass(frozen=True)
class LeftOut:
    """A record that cannot stay.

    Attributes:
        why: In a few words.
    """

    why: str


class Operation(Protocol):
    """An operation on records.

    It may also have `candidates(records)`, the ids of those that it can work on at all, and `everywhere`: whether it
    replaces the records of the other splits, too.

    Attributes:
        name: As provenance, report and seeds have it.
        fraction: Of the training records that it works on.
        file: Where its rows go; empty: they are records, which join the training split.
    """

    name: str
    fraction: float
    file: str

    def settings(self) -> dict[str, Any]:
        """What shapes its rows, besides seed and fraction."""

    def prepare(self, records: Iterable[Mapping[str, Any]]) -> None:
        """What takes long, for all chosen records; what was done before is not done again."""

    def apply(self, record: Mapping[str, Any], seed: int) -> "list[Made] | str | LeftOut":
        """The rows; why there are none; or why the record does not stay."""


@dataclass
class Counts:
    """What an operation has come to.

    Attributes:
        chosen: Records that it worked on.
        made: Rows.
        left_out: Records that do not stay.
        refused: Why records gave none, and how often.
        parts: Counts of its own.
    """

    chosen: int = 0
    made: int = 0
    left_out: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        found: dict[str, Any] = {
            "chosen": self.chosen,
            "made": self.made,
            "refused": dict(sorted(self.refused.items())),
        }
        found |= {"left_out": self.left_out} if self.left_out else {}
        return found | ({"parts": dict(sorted(self.parts.items()))} if self.parts else {})


def check_fraction(name: str, fraction: float) -> float:
    """The fraction.

    Raises:
        ValueError: if it is not above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {fraction}.")
    return fraction


def chosen_ids(ids: Sequence[str], name: str, fraction: float, seed: int) -> set[str]:
    """The ids of the records that an operation works on.

    Exactly `round(fraction * n)` of them (at least one), whatever their order. A larger fraction adds to a smaller
    one; records that join or leave move few others in or out.
    """
    distinct = set(ids)
    count = min(len(distinct), max(1, round(fraction * len(distinct))))
    return set(sorted(distinct, key=lambda item: digest(f"{seed}/{name}/{item}"))[:count])


def seed_of(seed: int, name: str, record: str) -> int:
    """The seed of an operation on a record (31 bits): nothing else in the data decides."""
    return int(digest(f"{seed}/{name}/{record}/rows"), 16) & 0x7FFFFFFF


def provenance_of(record: Mapping[str, Any], operation: Operation, seed: int, detail: str) -> list[dict[str, Any]]:
    """The provenance of what an operation has made of `record`: that of the record, and the operation."""
    entry = {"operation": operation.name, "of": record["id"], "seed": seed, "detail": detail}
    return [*(record.get(PROVENANCE) or []), entry]


def augmented_features(images: bool = False) -> "Features":
    """The columns of an augmented data set: those of records, and where each one comes from."""
    from datasets import List, Value

    from hf_reason.data.record import record_features

    entry = {name: Value("int64" if name == "seed" else "string") for name in ("operation", "of", "seed", "detail")}
    features = record_features(images)
    features[PROVENANCE] = List(entry)
    return features


def chosen(records: Iterable[Mapping[str, Any]], ids: set[str]) -> Iterator[Mapping[str, Any]]:
    """The records with these ids."""
    return (record for record in records if record["id"] in ids)
