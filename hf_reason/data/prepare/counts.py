"""The account of a preparation: how many traces came in, stayed, and were taken by which filter."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hf_reason.data.clean.filters import FILTER_NAMES
from hf_reason.data.record import RawTrace

# Every way out of the pipeline, in the order in which a trace meets them.
TAKEN_BY = ("unreadable", *FILTER_NAMES, "contaminated", "exact_duplicate", "near_duplicate")
EXAMPLES_EACH = 3


def excerpt(text: str, head: int = 120, tail: int = 60) -> str:
    """`text` on one line, its middle left out when it is longer than `head + tail` characters."""
    text = " ".join(text.split())
    return text if len(text) <= head + tail + 3 else f"{text[:head]} … {text[-tail:]}"


def trace_example(trace: RawTrace, note: str = "") -> dict[str, str]:
    """What the report shows of a trace that was taken."""
    chain = trace.thought if trace.thought is not None else "\n".join(trace.steps or [])
    return _example(trace.source, trace.context, chain, trace.answer, note)


def record_example(record: dict[str, Any], note: str = "") -> dict[str, str]:
    """The same for a record."""
    return _example(record["source"], record["context"], "\n".join(record["steps"]), record["answer"], note)


def _example(source: str, context: str, chain: str, answer: str, note: str) -> dict[str, str]:
    shown = {"source": source, "context": excerpt(context), "chain": excerpt(chain), "answer": excerpt(answer, 60, 30)}
    return shown | ({"note": note} if note else {})


@dataclass
class Tally:
    """Counts of one chunk, or, merged, of a whole run.

    Attributes:
        traces: traces read (rows that could not be read are not traces).
        kept: records that stayed.
        taken: traces or rows that each of `TAKEN_BY` took.
        examples: up to `EXAMPLES_EACH` of them each, the first ones.
        sources: traces read and records kept of each source file or data set.
    """

    traces: int = 0
    kept: int = 0
    taken: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    sources: dict[str, list[int]] = field(default_factory=dict)

    @property
    def came_in(self) -> int:
        """Traces and unreadable rows together."""
        return self.traces + self.taken["unreadable"]

    def read(self, trace: RawTrace) -> None:
        self.traces += 1
        self._source(trace.source)[0] += 1

    def keep(self, record: dict[str, Any]) -> None:
        self.kept += 1
        self._source(record["source"])[1] += 1

    def take(self, name: str, example: dict[str, str]) -> None:
        self.taken[name] += 1
        shown = self.examples.setdefault(name, [])
        if len(shown) < EXAMPLES_EACH:
            shown.append(example)

    def merge(self, other: "Tally") -> None:
        """Add a later chunk's tally."""
        self.traces += other.traces
        self.kept += other.kept
        self.taken.update(other.taken)
        for name, examples in other.examples.items():
            mine = self.examples.setdefault(name, [])
            mine.extend(examples[: EXAMPLES_EACH - len(mine)])
        for source, (came, stayed) in other.sources.items():
            mine_here = self.sources.setdefault(source, [0, 0])
            mine_here[0] += came
            mine_here[1] += stayed

    def _source(self, source: str) -> list[int]:
        return self.sources.setdefault(source.rpartition("#")[0] or source, [0, 0])

    def check(self) -> None:
        """Raise `AssertionError` unless in = out + taken: a record lost on the way is a bug."""
        gone = sum(self.taken.values())
        if self.came_in != self.kept + gone:
            raise AssertionError(f"{self.came_in} came in, but {self.kept} stayed and {gone} were taken.")
