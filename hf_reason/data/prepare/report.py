"""The report of a preparation: `report.json`, `report.html` and `report.png`.

All three depend on the data and the settings only: no date, no path of this machine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically, write_json_atomically

from .counts import DROP_REASONS, EXAMPLES_EACH, SUSPICIOUS, Counts, on_one_line
from .report_sample import ReportSample
from .report_stats import mode_notes

FORMAT_NAME = "hf_reason.prepare/"
FORMAT = f"{FORMAT_NAME}2"

_SMALL_SPLIT = 20
# Among at least this many traces, one with an unknown tag is not worth a note.
_MANY_TRACES = 100


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
            reason: [on_one_line(example) for example in counts.samples(reason)[:EXAMPLES_EACH]]
            for reason in (*DROP_REASONS, SUSPICIOUS)
            if reason in counts.examples
        },
        "settings": settings,
    }
    report["warnings"] = _warnings(report)
    return report


def _warnings(report: dict[str, Any]) -> list[str]:
    counts = report["counts"]
    found = [*unknown_tag_notes(report), *mode_notes(report["modes"])]
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
    first = f" One of them: {shown[0]['note']}" if shown else ""
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


def write_report(
    report: dict[str, Any], folder: Path, counts: Counts | None = None, sample: ReportSample | None = None
) -> None:
    """Write `report.png`, `report.html` and, last, `report.json` into `folder`.

    Args:
        report: What `build_report` gives.
        folder: Where to.
        counts: Of the run, whose longer examples the page shows; default: those of the report.
        sample: Records and pairs of duplicates for the page.
    """
    from .report_page import report_html
    from .report_plot import draw_report

    examples = None if counts is None else {reason: counts.samples(reason) for reason in report["examples"]}
    picture = draw_report(report)
    write_atomically(folder / "report.png", picture)
    write_atomically(folder / "report.html", report_html(report, picture, examples, sample))
    write_json_atomically(folder / "report.json", report)
