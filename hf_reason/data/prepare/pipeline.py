"""`prepare`: from raw traces to a `datasets` folder with train, validation and test, and a report.

The way of a trace: read -> record -> filters -> decontamination -> domain (chunks.py, in parallel), then duplicates
(here, in order), then the chunk is stored (workdir.py). When all chunks are stored: splits (splits.py), the final
folder (output.py) and the report (report.py). Of the records, only a chunk per process is in memory; what grows with
the data are the signatures of the duplicate search and 288 bytes a record for splits and statistics.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hf_reason.data.clean.dedup import Deduplicator
from hf_reason.data.clean.filters import FilterConfig
from hf_reason.data.clean.splits import SPLITS, assign_splits
from hf_reason.data.read.sources import read_traces
from hf_reason.data.record import DataError, RawTrace

from .checkpoint import OUTPUTS, WORK, WorkFolder, differences, remove_outputs
from .counts import Tally, record_example
from .report import FORMAT, RecordStats, build_report, write_report
from .settings import describe_settings, fingerprint
from .workers import Candidates, Chunk, ChunkJudge, JudgeOptions, judge_chunks
from .writer import open_splits

CHUNK_SIZE = 512


def prepare(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    schema: str | None = None,
    history: str = "drop",
    filters: FilterConfig | None = None,
    domain_rules: str | os.PathLike[str] | None = None,
    decontaminate: Sequence[str | os.PathLike[str]] = (),
    duplicate_threshold: float = 0.8,
    validation_share: float = 0.05,
    test_share: float = 0.05,
    num_proc: int = 1,
    skip_broken: bool = False,
    chunk_size: int = CHUNK_SIZE,
    overwrite: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Prepare raw traces for training.

    The same sources and settings give the same files, byte for byte, whatever `num_proc` and `chunk_size` are and
    however often the run was killed on the way: called again, it goes on at the first chunk that is not finished.
    A finished `output_dir` with the same sources and settings is left alone and its report returned.

    Args:
        sources: file(s), folder(s) or Hub data set name(s), see `read_traces`.
        output_dir: folder for the data set; `datasets.load_from_disk` and `load_cot_sft_dataset` read it.
        schema: name of the layout, `None` to tell it by its columns.
        history: what happens to earlier turns of a dialogue, see `read_traces`.
        filters: thresholds of the filters; `None` for the defaults.
        domain_rules: YAML file with domain rules, `None` for the built-in ones.
        decontaminate: evaluation files; a record whose problem occurs in one of them is taken out.
        duplicate_threshold: similarity, in (0, 1], from which records are near duplicates, see `Deduplicator`.
        validation_share: share of the contexts that goes to validation, in [0, 1); 0: no such split.
        test_share: the same for test.
        num_proc: number of processes. With more than one, call `prepare` under `if __name__ == "__main__":`.
        skip_broken: count rows that cannot be read and go on, instead of stopping at the first.
        chunk_size: traces a chunk; smaller loses less when killed and needs less memory.
        overwrite: remove an earlier result or unfinished run with other settings from `output_dir` first.
        progress: show a progress bar on stderr.

    Returns:
        The report, as in `report.json`.

    Raises:
        DataError: sources that cannot be used, an `output_dir` with other content, or nothing left after the filters.
    """
    if num_proc < 1 or chunk_size < 1:
        raise DataError(f"num_proc {num_proc} and chunk_size {chunk_size} must be at least 1.")
    names = [os.fspath(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    output = Path(output_dir)
    _check_places(names, output)
    options = JudgeOptions(
        filters=filters or FilterConfig(),
        domain_rules=os.fspath(domain_rules) if domain_rules is not None else None,
        decontaminate=tuple(os.fspath(path) for path in decontaminate),
        duplicate_threshold=duplicate_threshold,
        skip_broken=skip_broken,
    )
    traces = _Traces(names, schema=schema, history=history, skip_broken=skip_broken)
    settings = describe_settings(
        names,
        schema=schema,
        history=history,
        skip_broken=skip_broken,
        filters=options.filters,
        domain_rules=options.domain_rules,
        decontaminate=options.decontaminate,
        duplicate_threshold=duplicate_threshold,
        validation_share=validation_share,
        test_share=test_share,
    )
    if overwrite and _is_ours(output):
        remove_outputs(output)
    report = _finished(output, settings)
    if report is not None:
        return report
    ChunkJudge(options)  # Bad domain rules or evaluation files show here, not in a worker.
    with WorkFolder(output, settings, chunk_size) as work:
        try:
            if not work.all_read:
                _run_chunks(work, traces, options, num_proc, progress)
            report = _finish(work, output, settings)
        except KeyboardInterrupt:
            done = _merged(work).came_in
            print(f"\nInterrupted; {done} traces are done and kept. Run the same again to go on.", file=sys.stderr)
            raise
    shutil.rmtree(output / WORK, ignore_errors=True)
    if not report["counts"]["out"]:
        raise _nothing_left(output, report)
    return report


def _check_places(sources: list[str], output: Path) -> None:
    if not sources:
        raise DataError("No sources given: name a file, a folder or a Hub data set.")
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file. Choose a folder as output_dir.")
    for source in map(Path, sources):
        if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
            raise DataError(
                f"output_dir {output} lies inside the source folder {source}, so that its files would be read as "
                "traces. Choose another one."
            )


def _read_report(output: Path) -> dict[str, Any] | None:
    try:
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("format") == FORMAT else None


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
    if report["fingerprint"] != fingerprint(settings):
        if not report["counts"]["out"]:  # nothing to lose
            remove_outputs(output)
            return None
        raise DataError(
            f"{output} holds a data set made from other sources or with other settings "
            f"({differences(report['settings'], settings)}). Choose another output_dir, or pass overwrite "
            "(--overwrite) to replace it."
        )
    if not report["counts"]["out"]:
        raise _nothing_left(output, report)
    shutil.rmtree(output / WORK, ignore_errors=True)
    print(f"{output} is up to date: same sources and settings. Nothing to do.", file=sys.stderr)
    return report


def _nothing_left(output: Path, report: dict[str, Any]) -> DataError:
    counts = report["counts"]
    taken = sorted(((count, name) for name, count in counts["filters"].items() if count), reverse=True)
    most = ", ".join(f"{name} {count}" for count, name in taken[:3])
    return DataError(
        f"Nothing is left of {counts['in']} traces (taken by {most}). See the examples in {output / 'report.html'} "
        "and relax the filter that is wrong for this data."
    )


class _Traces:
    """Reads the sources one after the other and cuts them into chunks."""

    def __init__(self, sources: list[str], **how: Any):
        self._sources, self._how = sources, how
        self._unreadable: list[str] = []
        self._rows = 0
        for source in sources:  # a name that does not exist is an error now, not after hours
            self._read(source)

    def _read(self, source: str) -> Iterator[RawTrace]:
        return read_traces(source, on_broken=self._note, **self._how)

    def _note(self, message: str) -> None:
        self._rows += 1
        self._unreadable.append(message)

    def chunks(self, size: int, skip: int) -> Iterator[Chunk]:
        """Chunks of `size` traces (the last may be smaller), without the first `skip` chunks."""
        index, chunk = 0, Chunk()
        for source in self._sources:
            self._rows = 0
            for trace in self._read(source):
                self._rows += 1
                chunk.traces.append(trace)
                if len(chunk.traces) == size:
                    if index >= skip:
                        yield self._closed(chunk)
                    self._unreadable.clear()
                    index, chunk = index + 1, Chunk()
            if not self._rows:
                raise DataError(f"{source}: there is nothing in it. Remove it from the sources.")
        if (chunk.traces or self._unreadable) and index >= skip:
            yield self._closed(chunk)

    def _closed(self, chunk: Chunk) -> Chunk:
        chunk.unreadable = list(self._unreadable)
        return chunk


def _run_chunks(work: WorkFolder, traces: _Traces, options: JudgeOptions, num_proc: int, progress: bool) -> None:
    """Judge, deduplicate and store every chunk that is not finished."""
    from tqdm import tqdm

    done = work.finished_chunks()
    duplicates = Deduplicator(options.duplicate_threshold)
    for record in work.all_records():
        duplicates.add(record["context"], record["steps"])
    earlier = _merged(work)
    with (
        closing(judge_chunks(traces.chunks(work.chunk_size, done), options, num_proc)) as judged,
        tqdm(initial=earlier.came_in, unit=" traces", disable=not progress, desc="Preparing") as bar,
    ):
        kept = earlier.kept
        for index, candidates in enumerate(judged, done):
            _drop_duplicates(candidates, duplicates)
            work.add_chunk(index, candidates.records, candidates.keys, candidates.tally)
            kept += candidates.tally.kept
            bar.set_postfix(kept=kept, refresh=False)
            bar.update(candidates.tally.came_in)
    work.mark_all_read()


def _drop_duplicates(candidates: Candidates, duplicates: Deduplicator) -> None:
    found = list(zip(candidates.records, candidates.keys, candidates.sketches, strict=True))
    candidates.records, candidates.keys = [], []
    for record, key, sketch in found:
        kind = duplicates.add_sketch(sketch)
        if kind is not None:
            candidates.tally.take(f"{kind}_duplicate", record_example(record))
            continue
        candidates.tally.keep(record)
        candidates.records.append(record)
        candidates.keys.append(key)


def _merged(work: WorkFolder) -> Tally:
    tally = Tally()
    for index in range(work.finished_chunks()):
        tally.merge(work.tally(index))
    return tally


def _finish(work: WorkFolder, output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write the result in `.work/final`, then move it out, the report last. Can be repeated when killed."""
    final = work.path / "final"
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()
    shares = settings["validation_share"], settings["test_share"]
    tally, stats = _merged(work), RecordStats()
    writers = open_splits(final, *shares)
    keys = work.all_keys()
    splits = assign_splits(keys["signature"], keys["numbers"], keys["exact"], *shares)
    for record, split in zip(work.all_records(), splits, strict=True):
        writers[SPLITS[split]].add(record)
        stats.add(record, SPLITS[split])
    for writer in writers.values():
        writer.close()
    report = build_report(tally, stats.summary(list(writers)), settings, fingerprint(settings))
    write_report(report, final)
    if not tally.kept:
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
