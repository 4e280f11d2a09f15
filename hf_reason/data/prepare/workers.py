"""Chunks of raw traces -> candidate records, in order, in this process or in several.

All that can be decided about a trace by itself happens here: conversion, filters, domain, decontamination.
What depends on the other records (duplicates, splits) is prepared here and left to the caller.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from hf_reason.data.clean.dedup import Decontaminator, Deduplicator, Sketch
from hf_reason.data.clean.domains import DomainTagger
from hf_reason.data.clean.filters import FilterConfig, judge
from hf_reason.data.clean.splits import ContextKey, context_key
from hf_reason.data.read.sources import trace_to_record
from hf_reason.data.record import DataError, RawTrace

from .counts import Tally, trace_example


@dataclass
class Chunk:
    """Consecutive traces, and the messages about the rows between them that could not be read."""

    traces: list[RawTrace] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass
class Candidates:
    """What is left of a chunk: records in the order of the traces, their context keys and duplicate sketches."""

    tally: Tally
    records: list[dict[str, Any]] = field(default_factory=list)
    keys: list[ContextKey] = field(default_factory=list)
    sketches: list[Sketch] = field(default_factory=list)


@dataclass(frozen=True)
class JudgeOptions:
    """The settings a worker needs.

    Attributes:
        filters: thresholds of the filters.
        domain_rules: YAML file with domain rules, or `None` for the built-in ones.
        decontaminate: evaluation files whose texts must not occur.
        duplicate_threshold: similarity from which records are near duplicates.
        skip_broken: count a trace that cannot be made a record as unreadable instead of stopping.
    """

    filters: FilterConfig
    domain_rules: str | None = None
    decontaminate: tuple[str, ...] = ()
    duplicate_threshold: float = 0.8
    skip_broken: bool = False


class ChunkJudge:
    """Turns chunks into candidates. Loads the domain rules and the evaluation files once."""

    def __init__(self, options: JudgeOptions):
        self._options = options
        self._tagger = DomainTagger(options.domain_rules)
        self._decontaminator = Decontaminator(options.decontaminate) if options.decontaminate else None
        self._duplicates = Deduplicator(options.duplicate_threshold)

    def __call__(self, chunk: Chunk) -> Candidates:
        candidates = Candidates(Tally())
        for message in chunk.unreadable:
            candidates.tally.take("unreadable", {"note": message})
        for trace in chunk.traces:
            candidates.tally.read(trace)
            self._add(trace, candidates)
        return candidates

    def _add(self, trace: RawTrace, candidates: Candidates) -> None:
        try:
            record = trace_to_record(trace)
        except DataError as error:
            if not self._options.skip_broken:
                raise
            candidates.tally.traces -= 1
            candidates.tally.take("unreadable", trace_example(trace, str(error)))
            return
        taken_by = judge(trace, record, self._options.filters)
        note = ""
        problem = f"{record['context']}\n{record['task']}".strip()
        if taken_by is None and self._decontaminator is not None:
            found_in = self._decontaminator.hits(problem)
            if found_in is not None:
                taken_by, note = "contaminated", f"found in {found_in}"
        if taken_by is not None:
            candidates.tally.take(taken_by, trace_example(trace, note))
            return
        chain = "\n".join([*record["steps"], record["answer"]])
        record["domain"] = self._tagger.tag(problem, trace.domain, chain)
        candidates.records.append(record)
        candidates.sketches.append(self._duplicates.sketch(record["context"], record["steps"]))
        candidates.keys.append(context_key(record["context"] or problem))


def judge_chunks(
    chunks: Iterable[Chunk], options: JudgeOptions, num_proc: int = 1
) -> Generator[Candidates, None, None]:
    """Yield the candidates of each chunk, in order.

    At most `num_proc + 2` chunks are in memory, so that reading never runs far ahead of writing.

    Raises:
        DataError: from a chunk, or because a worker process died.
    """
    if num_proc == 1:
        yield from map(ChunkJudge(options), chunks)
        return
    pending: deque[Future[Candidates]] = deque()
    pool = ProcessPoolExecutor(
        num_proc, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(options,)
    )
    try:
        for chunk in chunks:
            pending.append(pool.submit(_judge_in_worker, chunk))
            if len(pending) > num_proc + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process died, most likely for want of memory. What is finished is kept: run the same command "
            "again, with a smaller num_proc."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker_judge: ChunkJudge | None = None


def _start_worker(options: JudgeOptions) -> None:
    global _worker_judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_judge = ChunkJudge(options)


def _end_with_parent() -> None:
    """Without this a worker waits for ever once the main process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _judge_in_worker(chunk: Chunk) -> Candidates:
    assert _worker_judge is not None
    return _worker_judge(chunk)
