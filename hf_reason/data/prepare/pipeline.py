"""The preparation's main loop: from raw traces to a `datasets` folder with train, validation and test, and a report.

The path of a trace: read -> record -> filters -> decontamination -> domain (workers.py, in parallel), then the chunk
is stored (checkpoint.py). When all chunks are stored: duplicates (clean/dedup.py), splits (clean/splits.py), the final
folder (writer.py) and the report (report.py). Only a chunk of records per process is in memory; what grows with the
data are about 60 bytes a record while duplicates and splits are searched for, and 16 for statistics.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from hf_reason._ray import ray_cluster
from hf_reason.data.clean.dedup import EXACT, NEW, Members, find_duplicates
from hf_reason.data.clean.splits import SPLITS, assign_splits
from hf_reason.data.output_folder import check_output_dir
from hf_reason.data.read.rows import BrokenRow
from hf_reason.data.read.sources import read_traces
from hf_reason.data.record import DataError, RawTrace

from . import ray_engine
from .checkpoint import OUTPUTS, WORK, WorkFolder, differences, remove_outputs
from .chunks import IMAGE_BYTES, Chunk
from .counts import record_example
from .ray_engine import members_on_ray
from .report import FORMAT, FORMAT_NAME, build_report, unknown_tag_notes, write_report
from .report_stats import RecordStats
from .settings import ENGINES, PrepareConfig, describe_settings, fingerprint, nearest
from .workers import ChunkProcessor, process_chunks
from .writer import open_splits


def run(
    sources: list[str],
    output_dir: str | os.PathLike[str],
    config: PrepareConfig,
    *,
    num_proc: int,
    engine: str,
    chunk_size: int,
    overwrite: bool,
    progress: bool,
) -> dict[str, Any]:
    """Prepare `sources`; `hf_reason.data.prepare.prepare` documents the arguments, the report and the errors."""
    if num_proc < 1 or chunk_size < 1:
        raise DataError(f"num_proc {num_proc} and chunk_size {chunk_size} must be at least 1.")
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is unknown.{nearest(engine, ENGINES)} Choose from {', '.join(ENGINES)}.")
    output = Path(output_dir)
    _check_places(sources, output)
    traces = _Traces(sources, config)
    settings = describe_settings(sources, config)
    if overwrite and _is_ours(output):
        remove_outputs(output)
    report = _finished(output, settings)
    if report is not None:
        return report
    ChunkProcessor(config)  # bad domain rules or evaluation files show here, not in a worker
    cluster = ray_cluster("engine ray") if engine == "ray" else nullcontext()
    with WorkFolder(output, settings, chunk_size) as work, cluster as ray:
        try:
            if not work.all_read:
                _run_chunks(work, traces, config, num_proc, progress, ray is not None)
            members = members_on_ray(work.path / "keys", num_proc) if ray is not None else None
            report = _finish(work, output, settings, config, members, progress)
        except KeyboardInterrupt:
            print(
                f"\nInterrupted after {work.chunks.counts().read} traces, which are kept. Run the same command again "
                "to resume.",
                file=sys.stderr,
            )
            raise
    shutil.rmtree(output / WORK, ignore_errors=True)
    if not report["counts"]["out"]:
        raise _nothing_left(output, report)
    return report


def _check_places(sources: list[str], output: Path) -> None:
    if not sources:
        raise DataError("No sources given. Name a file, a folder or a Hub data set.")
    check_output_dir(output)
    for source in map(Path, sources):
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"output_dir {output} is inside the source folder {source}, so its files would be read as traces. "
                "Choose another one."
            )


def _read_report(output: Path) -> dict[str, Any] | None:
    try:
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(report, dict) and str(report.get("format")).startswith(FORMAT_NAME)
    return report if ours else None


def _is_ours(output: Path) -> bool:
    return (output / WORK / "settings.json").exists() or _read_report(output) is not None


def _finished(output: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a finished result with the same settings; `None` when there is work to do."""
    if (output / WORK / "settings.json").exists():
        return None
    report = _read_report(output)
    if report is None:
        if foreign := [name for name in OUTPUTS if (output / name).exists()]:
            raise DataError(
                f"{output} already holds {', '.join(foreign)}, which hf_reason did not write. Choose another "
                "output_dir."
            )
        return None
    if report["format"] != FORMAT:
        raise DataError(
            f"{output} holds a data set prepared by another version of hf_reason ({report['format']}, now {FORMAT}). "
            "Choose another output_dir, or pass overwrite=True (--overwrite) to replace it."
        )
    if report["fingerprint"] != fingerprint(settings):
        if not report["counts"]["out"]:  # nothing to lose
            remove_outputs(output)
            return None
        raise DataError(
            f"{output} holds a data set made from other sources or with other settings "
            f"({differences(report['settings'], settings)}). Choose another output_dir, or pass "
            "overwrite=True (--overwrite) to replace it."
        )
    if not report["counts"]["out"]:
        raise _nothing_left(output, report)
    shutil.rmtree(output / WORK, ignore_errors=True)
    print(f"{output} is up to date: same sources and settings. Nothing to do.", file=sys.stderr)
    return report


def _nothing_left(output: Path, report: dict[str, Any]) -> DataError:
    counts = report["counts"]
    dropped = sorted(((count, name) for name, count in counts["filters"].items() if count), reverse=True)
    most = ", ".join(f"{name} {count}" for count, name in dropped[:3])
    without = counts["filters"]["empty_thought"]
    if notes := unknown_tag_notes(report):
        return DataError(f"Nothing is left of {counts['in']} traces (dropped: {most}): {' '.join(notes)}")
    if 2 * without > counts["in"]:
        return DataError(
            f"Nothing is left of {counts['in']} traces (dropped: {most}): most rows have no reasoning to train on; "
            f"see the examples in {output / 'report.html'}. `hf-reason evaluate` reads questions with answers alone; "
            "to train on them, prepare with --keep_non_thinking true and train with --thinking false."
        )
    return DataError(
        f"Nothing is left of {counts['in']} traces (dropped: {most}). See the examples in {output / 'report.html'} "
        "and relax the filter that does not fit this data."
    )


class _Traces:
    """Reads the sources one after the other and cuts them into chunks."""

    def __init__(self, sources: list[str], config: PrepareConfig):
        self._sources, self._config = sources, config
        self._unreadable: list[BrokenRow] = []
        self._rows = 0
        for source in sources:  # a name that does not exist is an error now, not after hours
            self._read(source)

    def _read(self, source: str) -> Iterator[RawTrace]:
        config = self._config
        return read_traces(
            source,
            config.schema,
            config.history,
            config.skip_broken,
            on_broken=self._note,
            thought_tags=config.thought_tags,
            images=config.image_settings,
        )

    def _note(self, row: BrokenRow) -> None:
        self._rows += 1
        self._unreadable.append(row)

    def chunks(self, size: int, skip: int) -> Iterator[tuple[int, Chunk]]:
        """Chunks of `size` traces (the last may be smaller), numbered, without the first `skip` chunks."""
        index, chunk = 0, Chunk()
        for source in self._sources:
            self._rows = 0
            for trace in self._read(source):
                self._rows += 1
                chunk.add(trace)
                if len(chunk.traces) == size or chunk.image_bytes >= IMAGE_BYTES:
                    if index >= skip:
                        yield index, self._closed(chunk)
                    self._unreadable.clear()
                    index, chunk = index + 1, Chunk()
            if not self._rows:
                raise DataError(f"{source}: it holds no rows. Remove it from the sources.")
        if (chunk.traces or self._unreadable) and index >= skip:
            yield index, self._closed(chunk)

    def _closed(self, chunk: Chunk) -> Chunk:
        chunk.unreadable = list(self._unreadable)
        return chunk


def _run_chunks(
    work: WorkFolder, traces: _Traces, config: PrepareConfig, num_proc: int, progress: bool, ray: bool
) -> None:
    """Process and store every chunk that is not finished."""
    from tqdm import tqdm

    chunks = traces.chunks(work.chunk_size, work.chunks.finished())
    process = ray_engine.process_chunks if ray else process_chunks
    with (
        closing(process(chunks, config, work.path, num_proc)) as processed,
        tqdm(initial=work.chunks.counts().read, unit=" traces", disable=not progress, desc="Preparing") as bar,
    ):
        for count in processed:
            bar.update(count)
    work.mark_all_read()


def _finish(
    work: WorkFolder,
    output: Path,
    settings: dict[str, Any],
    config: PrepareConfig,
    members: Members | None,
    progress: bool,
) -> dict[str, Any]:
    """Write the result in `.work/final`, then move it out, the report last. Can be repeated when killed."""
    from tqdm import tqdm

    final = work.path / "final"
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()
    counts, stats = work.chunks.counts(), RecordStats(config.tokenizer_name_or_path)
    writers = open_splits(final, config.split_sizes, work.chunks.has_images())
    with work.chunks.keys() as keys:
        duplicates = find_duplicates(keys, config.duplicate_threshold, members)
        kept = np.flatnonzero(duplicates.kind == NEW)
        splits = np.zeros(len(keys), dtype=np.uint8)
        splits[kept] = assign_splits(keys, kept, config.validation_size, config.test_size)
        suspicious = keys.column("suspicious")
    stats.compare(duplicates)
    records = tqdm(work.chunks.records(), total=len(suspicious), unit=" records", disable=not progress, desc="Writing")
    for row, record in enumerate(records):
        stats.see(row, record)
        kind = duplicates.kind[row]
        if kind != NEW:
            reason = "exact_duplicate" if kind == EXACT else "near_duplicate"
            counts.drop(reason, record["source"], record_example(record))
            continue
        counts.keep(record, bool(suspicious[row]))
        split = SPLITS[splits[row]]
        writers[split].add(config.stored(record))
        stats.add(record, split)
    for writer in writers.values():
        writer.close()
    report = build_report(counts, stats.summary(list(writers)), settings, fingerprint(settings))
    write_report(report, final, counts, stats.sample)
    if not counts.kept:
        for name in ("dataset_dict.json", *writers):
            path = final / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in OUTPUTS:
        target = output / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
    for name in sorted(OUTPUTS, key=lambda name: name == "report.json"):
        if (final / name).exists():
            os.replace(final / name, output / name)
    return report
