"""The report of a preparation: `report.json`, `report.html` and `report.png`.

All three depend on the data and the settings only: no date, no path of this machine.
"""

import base64
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.data.clean.splits import SPLITS
from hf_reason.data.record import DOMAINS, LANGUAGES, Record

from .counts import DROP_REASONS, SUSPICIOUS, Counts

FORMAT_NAME = "hf_reason.prepare/"
FORMAT = f"{FORMAT_NAME}2"

# Lengths in characters, `steps` in steps; 4 bytes per record and measure are kept.
MEASURES = ("context", "chain", "answer", "steps")
_PERCENTILES = (5, 25, 50, 75, 95, 99)
_BINS = 30
_SMALL_SPLIT = 20
# Among at least this many traces, one with an unknown tag is not worth a note.
_MANY_TRACES = 100

LABELS = {
    "unreadable": "row that could not be read",
    "broken_image": "with an image that is missing or cannot be read",
    "contaminated": "occurs in an evaluation file",
    "exact_duplicate": "exact duplicate",
    "near_duplicate": "near duplicate",
    SUSPICIOUS: "suspicious: the answer contradicts its chain (kept)",
}


class RecordStats:
    """Collects what the report says about the records that were kept."""

    def __init__(self) -> None:
        self._values = {name: array("I") for name in MEASURES}
        self._domains = {domain: Counter[str]() for domain in DOMAINS}
        self._languages: Counter[str] = Counter()
        self._splits: Counter[str] = Counter()

    def add(self, record: Record, split: str) -> None:
        steps = record["steps"]
        sizes = (len(record["context"]), sum(map(len, steps)), len(record["answer"]), len(steps))
        for name, size in zip(MEASURES, sizes, strict=True):
            self._values[name].append(size)
        self._domains[record["domain"]][split] += 1
        self._languages[record["language"]] += 1
        self._splits[split] += 1

    def summary(self, splits: list[str]) -> dict[str, Any]:
        """JSON-able: records per split, domain (and split) and language; percentiles and histograms."""
        return {
            "splits": {split: self._splits[split] for split in splits},
            "domains": {
                name: {"all": sum(found.values())} | {split: found[split] for split in splits}
                for name, found in self._domains.items()
            },
            "languages": {name: self._languages[name] for name in LANGUAGES},
            "distributions": {name: describe(values) for name, values in self._values.items()},
        }


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


def build_report(
    counts: Counts, summary: dict[str, Any], settings: dict[str, Any], fingerprint: str
) -> dict[str, Any]:
    """Put the report together.

    Args:
        counts: The merged counts of all chunks.
        summary: `RecordStats.summary`.
        settings: What the run was called with, as in `.work/settings.json`.
        fingerprint: Hash of the settings; the same fingerprint means the same data set.

    Raises:
        AssertionError: if in != out + dropped, in all or in one of the files.
    """
    counts.check()
    dropped = counts.dropped
    report = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "counts": {
            "in": counts.read,
            "out": counts.kept,
            "filters": {reason: dropped[reason] for reason in DROP_REASONS},
            SUSPICIOUS: counts.suspicious,
            **({"images": dict(sorted(counts.images.items()))} if counts.images else {}),
        },
        # Sorted: which file comes first must not depend on where the chunks were cut.
        "files": {
            name: {
                "in": found.read,
                "out": found.kept,
                "filters": {reason: found.dropped[reason] for reason in DROP_REASONS if found.dropped[reason]},
            }
            for name, found in sorted(counts.files.items())
        },
        "unknown_tags": dict(sorted(counts.unknown_tags.items(), key=lambda item: (-item[1], item[0]))),
        **summary,
        "examples": {
            reason: counts.examples[reason] for reason in (*DROP_REASONS, SUSPICIOUS) if reason in counts.examples
        },
        "settings": settings,
    }
    report["warnings"] = _warnings(report)
    return report


def _warnings(report: dict[str, Any]) -> list[str]:
    counts = report["counts"]
    found = unknown_tag_notes(report)
    found += [
        _small(split, rows)
        for split, rows in report["splits"].items()
        if split != "train" and rows < _SMALL_SPLIT and counts["out"]
    ]
    for reason, dropped in counts["filters"].items():
        if dropped > counts["in"] / 2:
            found.append(f"{reason} dropped {dropped} of {counts['in']} traces. Look at its examples first.")
    for name, file in report["files"].items():
        if not file["out"] and len(report["files"]) > 1:
            found.append(f"{name}: none of its {file['in']} rows was kept.")
    found += _image_notes(report)
    if counts[SUSPICIOUS]:
        found.append(
            f"{counts[SUSPICIOUS]} of {counts['out']} records are suspicious (their answer contradicts their chain) "
            "and were kept: report.html shows examples."
        )
    return found


def _image_notes(report: Mapping[str, Any]) -> list[str]:
    """What became of records with images that cannot be used, and what is wrong with the first of them."""
    dropped = report["counts"]["filters"].get("broken_image", 0)
    kept = report["counts"].get("images", {}).get("without_broken_ones", 0)
    if not dropped and not kept:
        return []
    shown = report["examples"].get("broken_image")
    first = f" The first: {shown[0]['note']}" if shown else ""
    what = f"{dropped} records were dropped" if dropped else f"{kept} records were kept without an image"
    return [f"{what} because an image of theirs is missing, outside of the folder, or cannot be read.{first}"]


def unknown_tag_notes(report: Mapping[str, Any]) -> list[str]:
    """A note on each pair of tags that encloses the beginning of many answers without a thought, and what reads it."""
    notes = []
    for name, count in report.get("unknown_tags", {}).items():
        if count > 1 or report["counts"]["in"] < _MANY_TRACES:
            opening, _, closing = name.partition(",")
            if not closing:
                opening, closing = f"<{name}>", f"</{name}>"
            given = name if name.isidentifier() else f"'{name}'"
            traces = "1 trace carries" if count == 1 else f"{count} traces carry"
            notes.append(
                f"{traces} {opening}…{closing} before the answer and no thought: if it is one, pass "
                f"--thought_tags {given} (thought_tags=[{name!r}])."
            )
    return notes


def _small(split: str, rows: int) -> str:
    """A note on a split with few records, or without any."""
    if not rows:
        return f"The {split} split has no records, so nothing is measured on it. Raise {split}_size (--{split}_size)."
    count = "1 record" if rows == 1 else f"{rows} records"
    return f"The {split} split has only {count}: scores on it will be noisy. Raise {split}_size (--{split}_size)."


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write `report.png`, `report.html` and, last, `report.json` into `folder`."""
    from .report_plot import draw_report

    picture = draw_report(report)
    write_atomically(folder / "report.png", picture)
    write_atomically(folder / "report.html", report_html(report, picture))
    write_json_atomically(folder / "report.json", report)


def report_html(report: dict[str, Any], picture: bytes) -> str:
    """One page without outside references; every text of the data is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8")
    dropped = [(reason, label(reason), count) for reason, count in report["counts"]["filters"].items()]
    return environment.from_string(source).render(
        report=report,
        dropped=dropped,
        suspicious=SUSPICIOUS,
        label=label,
        splits=[name for name in SPLITS if name in report["splits"]],
        picture=base64.b64encode(picture).decode(),
    )


def label(reason: str) -> str:
    """A drop reason in words."""
    return LABELS.get(reason, reason.replace("_", " "))
