"""Which records the report's page shows: drawn evenly by hashes, whatever the order and the number of records."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_reason.data.record import Record

from .counts import clipped

if TYPE_CHECKING:
    from hf_reason.data.clean.dedup import Duplicates

# Records of each domain on the page, pairs of each kind of duplicates, and records whose tokens are counted.
SHOWN_EACH, PAIRS_EACH, TOKEN_RECORDS = 24, 8, 500
# Steps that the page shows of a chain, and characters of a step and of the other texts.
_STEPS, _STEP, _TEXT = 40, (500, 100), (1200, 300)
_TEXTS = ("context", "task", "steps", "answer")


@dataclass
class Draw:
    """The `size` items with the smallest numbers, in their order."""

    size: int
    items: list[tuple[int, int, Any]] = field(default_factory=list)
    _seen: int = 0

    def wants(self, number: int) -> bool:
        """Whether an item of this number would be among them now."""
        return len(self.items) < self.size or number < self.items[-1][0]

    def add(self, number: int, item: Any) -> None:
        self._seen += 1  # of equal numbers the earlier one stays
        bisect.insort(self.items, (number, self._seen, item))
        del self.items[self.size :]

    @property
    def drawn(self) -> list[Any]:
        return [item for _, _, item in self.items]


class ReportSample:
    """What the page shows of the kept records, and of pairs of duplicates.

    A record's id is a hash, which is the number that it is drawn by.
    """

    def __init__(self) -> None:
        self._shown: dict[tuple[str, bool], Draw] = {}
        self._measured = Draw(TOKEN_RECORDS)
        self._pairs: dict[str, list[tuple[int, int]]] = {}
        self._wanted: dict[int, dict[str, Any] | None] = {}

    def add(self, record: Record, split: str) -> None:
        """Offer a kept record."""
        number = int(record["id"][:12], 16)
        group = record["domain"], bool(record["steps"])
        shown = self._shown.get(group)
        if shown is None:
            shown = self._shown[group] = Draw(SHOWN_EACH)
        if shown.wants(number):
            shown.add(number, shortened(record) | {"split": split})
        if self._measured.wants(number):
            self._measured.add(number, {name: record[name] for name in _TEXTS})  # type: ignore[literal-required]

    def compare(self, duplicates: "Duplicates") -> None:
        """Draw the pairs that are shown, before the records are seen one by one."""
        import numpy as np

        from hf_reason.data.clean.dedup import EXACT, NEAR

        for name, kind in (("near", NEAR), ("exact", EXACT)):
            rows = np.flatnonzero(duplicates.kind == kind)
            chosen = np.sort(np.random.default_rng(0).permutation(rows)[:PAIRS_EACH])
            self._pairs[name] = [(int(row), int(duplicates.of[row])) for row in chosen]
        self._wanted = dict.fromkeys(row for pairs in self._pairs.values() for pair in pairs for row in pair)

    def see(self, row: int, record: Record) -> None:
        """Offer any record that passed the filters, duplicate or not, by its number."""
        if row in self._wanted:
            self._wanted[row] = shortened(record)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records that are shown, by domain; those with a chain first."""
        return [one for key in sorted(self._shown, key=_order) for one in self._shown[key].drawn]

    @property
    def measured(self) -> list[Record]:
        """The texts of the records whose tokens are counted."""
        return self._measured.drawn

    @property
    def pairs(self) -> dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]:
        """Pairs of a kept record and its duplicate, by kind."""
        found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
        for name, rows in self._pairs.items():
            pairs = [(self._wanted[kept], self._wanted[dropped]) for dropped, kept in rows]
            found[name] = [(kept, dropped) for kept, dropped in pairs if kept is not None and dropped is not None]
        return found


def _order(group: tuple[str, bool]) -> tuple[str, bool]:
    return group[0], not group[1]


def shortened(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a record: long texts without their middle."""
    steps = [clipped(step, *_STEP) for step in record["steps"]]
    left_out = len(steps) - _STEPS
    return {name: record.get(name, "") for name in ("source", "domain", "language")} | {
        "context": clipped(record["context"], *_TEXT),
        "task": clipped(record.get("task", ""), *_TEXT),
        "steps": steps[: _STEPS // 2] + steps[-_STEPS // 2 :] if left_out > 0 else steps,
        "left_out": max(left_out, 0),
        "count": len(record["steps"]),
        "answer": clipped(record["answer"], *_TEXT),
        "images": len(record.get("images") or ()),
    }
