"""The figures of a preparation's report about the records that were kept."""

from array import array
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hf_reason.data.record import DOMAINS, LANGUAGES, Record

from .report_sample import ReportSample

if TYPE_CHECKING:
    from hf_reason.data.clean.dedup import Duplicates

# Lengths in characters, `steps` in steps; 4 bytes per record and measure are kept.
MEASURES = ("context", "chain", "answer", "steps")
_PERCENTILES = (5, 25, 50, 75, 95, 99)
_BINS = 30
# A mixture with more records without a chain than with one is one that mostly teaches to answer at once.
MOSTLY = 0.5
# Fewer records of a domain say nothing about its modes.
_FEW = 20


class RecordStats:
    """Collects what the report says about the records that were kept.

    Args:
        tokenizer: Name of the tokenizer in whose tokens lengths are given, too.
    """

    def __init__(self, tokenizer: str | None = None) -> None:
        self._values = {name: array("I") for name in MEASURES}
        self._domains = {domain: Counter[str]() for domain in DOMAINS}
        self._languages: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()
        self._without_chain: Counter[str] = Counter()
        self._tokenizer = tokenizer
        self.sample = ReportSample()

    def add(self, record: Record, split: str) -> None:
        steps = record["steps"]
        sizes = (len(record["context"]), sum(map(len, steps)), len(record["answer"]), len(steps))
        for name, size in zip(MEASURES, sizes, strict=True):
            self._values[name].append(size)
        self._domains[record["domain"]][split] += 1
        self._languages[record["language"]] += 1
        self._splits[split] += 1
        if not steps:
            self._without_chain[record["domain"]] += 1
        self.sample.add(record, split)

    def compare(self, duplicates: "Duplicates") -> None:
        """What was found among the records, before they are seen one by one."""
        self.sample.compare(duplicates)

    def see(self, row: int, record: Record) -> None:
        """Any record that passed the filters, by its number, before it is kept or dropped as a duplicate."""
        self.sample.see(row, record)

    def summary(self, splits: list[str]) -> dict[str, Any]:
        """JSON-able: records per split, domain (and split), language and mode; percentiles and histograms."""
        found = {
            "splits": {split: self._splits[split] for split in splits},
            "domains": {
                name: {"all": sum(found.values())} | {split: found[split] for split in splits}
                for name, found in self._domains.items()
            },
            "languages": {name: self._languages[name] for name in LANGUAGES},
            "modes": self._modes(),
            "distributions": {name: describe(values) for name, values in self._values.items()},
        }
        return found | ({"tokens": self._tokens(self._tokenizer)} if self._tokenizer is not None else {})

    def _modes(self) -> dict[str, Any]:
        totals = {name: sum(found.values()) for name, found in self._domains.items()}
        by_domain = {name: _mode(total, self._without_chain[name]) for name, total in totals.items() if total}
        return _mode(sum(totals.values()), sum(self._without_chain.values())) | {"domains": by_domain}

    def _tokens(self, tokenizer: str) -> dict[str, Any]:
        from .report_tokens import describe_tokenizer, token_lengths

        lengths = token_lengths(self.sample.measured, tokenizer)
        return {
            "tokenizer": describe_tokenizer(tokenizer)["name"],
            "records": len(self.sample.measured),
            "distributions": {name: describe(values) for name, values in lengths.items()},
        }


def _mode(records: int, without: int) -> dict[str, int]:
    return {"with_chain": records - without, "without_chain": without}


def mode_notes(modes: dict[str, Any]) -> Iterator[str]:
    """What to say about records with and without a chain in one data set (LLaMA-Factory#9765)."""
    chains, without = modes["with_chain"], modes["without_chain"]
    total = chains + without
    if not chains or not without:
        return
    yield (
        f"Hybrid data: {without:,} of {total:,} records ({without / total:.1%}) have no chain and are examples of the "
        "mode without thinking. Train on them with a chat template that has the switch (enable_thinking), or with "
        "--add_thinking_switch true, and measure both modes: hf-reason evaluate --thinking true false."
    )
    if without > MOSTLY * total:
        yield (
            f"Most records have no chain ({without / total:.0%}), so training mostly teaches to answer at once and "
            "the thinking mode weakens. Leave sources without chains out until they are at most half, or prepare "
            "without --keep_non_thinking."
        )
    silent = [name for name, one in modes["domains"].items() if not one["with_chain"] and one["without_chain"] >= _FEW]
    if silent:
        yield (
            f"No record of {', '.join(silent)} has a chain, while other domains have them: the model may stop "
            "thinking about these domains. Add traces with a chain for them (hf-reason generate-traces makes them)."
        )


def describe(values: "array[int]") -> dict[str, Any]:
    """Mean, extremes, percentiles and a histogram of whole numbers; `{}` for none.

    The histogram's bins are equally wide (1, 2 or 5 times a power of ten) and reach up to the 99th percentile;
    `over` counts the values beyond, so that a single huge value does not flatten the rest.
    """
    import numpy as np

    if not len(values):
        return {}
    numbers = np.frombuffer(values, dtype=f"u{values.itemsize}")
    percentiles = np.percentile(numbers, _PERCENTILES, method="inverted_cdf")
    low, high = int(numbers.min()), int(percentiles[-1])
    width = _nice_width((high - low + 1) / _BINS)
    edges = np.arange(low - low % width, high + width + 1, width)
    counts, _ = np.histogram(numbers[numbers < edges[-1]], bins=edges)
    return {
        "mean": round(float(numbers.mean()), 2),
        "min": low,
        **{f"p{p}": int(value) for p, value in zip(_PERCENTILES, percentiles, strict=True)},
        "max": int(numbers.max()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist(), "over": int((numbers >= edges[-1]).sum())},
    }


def _nice_width(least: float) -> int:
    width = 1
    while width < least:
        width = int(width * 2.5) if str(width)[0] == "2" else width * 2
    return width
