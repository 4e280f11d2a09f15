"""Samples of a teacher on problems, and what becomes of them: records, pairs, pass rates and a report.

A sample is on the disk as soon as it is there. A run that was stopped, or that is to have more samples of each problem
or more problems, asks for what is missing only; what is kept is chosen anew from all samples.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason._journal import Journal
from hf_reason.data.output_folder import alone_in
from hf_reason.data.record import DataError
from hf_reason.version import __version__

from .reading import verified
from .selection import BINS, Counts, pair_of, prediction_of, solve, trace_of
from .settings import Job, TraceSettings

# The report marks the folder for the reader of data, which takes the traces and nothing else of it.
SAMPLES, TRACES, PAIRS, PREDICTIONS = "samples.jsonl", "traces.jsonl", "pairs.jsonl", "predictions.jsonl"
REPORT = "traces.json"


class Writer(Protocol):
    """What makes samples: `LocalWriter` or `ServedWriter`."""

    failures: dict[str, int]

    def write(self, jobs: Sequence[Job]) -> Iterator[list[dict[str, Any]]]:
        """The samples, in any order."""


Progress = Callable[[Mapping[str, Any] | None], None]


def generate_traces(
    problems: Sequence[Mapping[str, Any]],
    writer: Writer,
    settings: TraceSettings,
    output_dir: str | Path,
    *,
    teacher: str,
    identity: Mapping[str, Any],
    instructions: Mapping[str, str] | None = None,
    progress: Callable[[int, int], Progress] | None = None,
) -> dict[str, Any]:
    """Make the samples that are missing, choose among all of them, and write the folder.

    Args:
        problems: Records; `answer` is the reference, or empty. Each id once.
        writer: The teacher.
        settings: How many samples, and which are kept.
        output_dir: The folder. `traces.jsonl` has the records; `pairs.jsonl` the pairs; `predictions.jsonl` the
            verdict on each sample; `traces.json` the report; `samples.jsonl` what the teacher wrote.
        teacher: Its name in the records: no path, no URL.
        identity: What tells the teacher and its prompts from others; samples of another one are refused.
        instructions: Template of each domain, for the prompts of the pairs.
        progress: Called with the number of samples and how many of them are there; gives a function that is called
            with each new sample, and with `None` at the end.

    Returns:
        The report.

    Raises:
        DataError: if another run is writing to the folder, it has traces of another origin, or `keep` asks for
            verified chains and no problem has an answer.
        JournalError: if the folder has samples that were made in another way.
    """
    if not problems:
        raise DataError("there are no problems.")
    if settings.keep != "all" and not any(record["answer"].strip() for record in problems):
        raise DataError(
            f"keep={settings.keep} keeps verified chains, and none of the {len(problems)} problems has an answer to "
            "compare with. Give problems with answers, or --keep all."
        )
    folder = Path(output_dir)
    with alone_in(folder):
        if (folder / TRACES).exists() and not (folder / SAMPLES).exists():
            raise DataError(f"{folder} has a {TRACES} that this command did not write. Choose another output_dir.")
        shape = {"teacher": teacher, **identity, **settings.sampling()}
        journal = Journal(folder / SAMPLES, shape, key=("id", "sample"))
        wanted = [
            Job(record, sample, settings.seed_of(record["id"], sample))
            for record in problems
            for sample in range(settings.num_samples)
        ]
        missing = [job for job in wanted if (job.record["id"], job.sample) not in journal]
        note = progress(len(wanted), len(wanted) - len(missing)) if progress else _silent
        try:
            for rows in writer.write(missing) if missing else ():
                journal.add(rows)
                for row in rows:
                    note(row)
        finally:
            note(None)
        return _finish(problems, journal, settings, folder, teacher, instructions or {}, writer.failures)


def _silent(row: Mapping[str, Any] | None) -> None:
    """Nobody watches."""


def _finish(
    problems: Sequence[Mapping[str, Any]],
    journal: Journal,
    settings: TraceSettings,
    folder: Path,
    teacher: str,
    instructions: Mapping[str, str],
    failures: Mapping[str, int],
) -> dict[str, Any]:
    """Write everything that is made of the samples; each file is there whole or not at all."""
    provenance = {"teacher": teacher, **settings.sampling(), "made_by": f"hf_reason {__version__}"}
    counts, usage = Counts(), {"prompt_tokens": 0, "completion_tokens": 0}

    def write(paths: list[Path]) -> None:
        with (
            open(paths[0], "w", encoding="utf-8") as traces,
            open(paths[1], "w", encoding="utf-8") as pairs,
            open(paths[2], "w", encoding="utf-8") as predictions,
        ):
            for record in problems:
                names = [(record["id"], sample) for sample in range(settings.num_samples)]
                rows = journal.read(name for name in names if name in journal)
                for name in usage:
                    usage[name] += sum(int(row.get(name) or 0) for row in rows)
                samples = [verified(row, record, settings.verify_steps) for row in rows]
                solved = solve(record, samples, settings)
                counts.add(solved)
                predictions.writelines(_line(prediction_of(record, sample)) for sample in samples)
                traces.writelines(_line(trace_of(solved, sample, provenance)) for sample in solved.kept)
                pairs.writelines(_line(pair_of(solved, *pair, instructions)) for pair in solved.pairs)

    targets = [folder / name for name in (TRACES, PAIRS, PREDICTIONS)]
    _write_together(targets, write)
    if not settings.pairs:
        (folder / PAIRS).unlink(missing_ok=True)
    numbers = dict(counts.numbers)
    report = {
        "teacher": teacher,
        "settings": asdict(settings),
        "counts": numbers,
        "missing_samples": len(problems) * settings.num_samples - numbers["samples"],
        "failures": dict(failures),
        "usage": usage,
        "mean_tokens": counts.tokens / max(numbers["samples"], 1),
        "mean_tokens_kept": counts.kept_tokens / max(numbers["kept"], 1),
        "pass_rate": {name: counts.histogram[name] for name in BINS},
    }
    write_json_atomically(folder / REPORT, report)
    return report


def _write_together(targets: Sequence[Path], write: Callable[[list[Path]], None]) -> None:
    """Several files written at once, each under another name until all are whole."""
    for target in targets:  # what a killed run left: one run at a time works in the folder
        for half in target.parent.glob(f".{target.stem}.*.tmp{target.suffix}"):
            half.unlink(missing_ok=True)

    def nested(done: list[Path]) -> None:
        if len(done) == len(targets):
            write(done)
        else:
            write_atomically(targets[len(done)], lambda path: nested([*done, path]))

    nested([])


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
