"""Chunks of raw traces -> records, in order, in this process or in several.

Everything that can be decided about a trace by itself happens here: conversion, filters, domain, decontamination.
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

from hf_reason.data.clean.contradictions import contradicts_chain
from hf_reason.data.clean.decontaminate import Decontaminator
from hf_reason.data.clean.dedup import Deduplicator, Sketch
from hf_reason.data.clean.domains import DomainTagger
from hf_reason.data.clean.filters import failed_filter
from hf_reason.data.clean.splits import ContextKey, context_key
from hf_reason.data.read.other_tags import unknown_tag
from hf_reason.data.read.rows import BrokenRow
from hf_reason.data.read.sources import trace_to_record
from hf_reason.data.record import DataError, RawTrace, Record

from .counts import Counts, trace_example
from .settings import PrepareConfig


@dataclass
class Chunk:
    """Consecutive traces, and the rows between them that could not be read."""

    traces: list[RawTrace] = field(default_factory=list)
    unreadable: list[BrokenRow] = field(default_factory=list)


@dataclass
class Candidate:
    """A record that passed the filters, with what the later stages need to know about it.

    Attributes:
        record: The record.
        key: Key of its context, for the splits.
        sketch: Its sketch, for the search for duplicates.
        suspicious: Whether its answer contradicts its chain.
    """

    record: Record
    key: ContextKey
    sketch: Sketch
    suspicious: bool


@dataclass
class ProcessedChunk:
    """What is left of a chunk, in the order of the traces, and the counts of what was read and dropped."""

    counts: Counts = field(default_factory=Counts)
    candidates: list[Candidate] = field(default_factory=list)


class ChunkProcessor:
    """Turns a chunk into records. Loads the domain rules and the evaluation files once."""

    def __init__(self, config: PrepareConfig):
        self.config = config
        self._tagger = DomainTagger(config.domain_rules) if config.domain is None else None
        self._decontaminator = Decontaminator(config.decontaminate) if config.decontaminate else None
        self._duplicates = Deduplicator(config.duplicate_threshold)

    def __call__(self, chunk: Chunk) -> ProcessedChunk:
        processed = ProcessedChunk()
        for trace in chunk.traces:
            processed.counts.add_read(trace.source)
            self._add(trace, processed)
        for row in chunk.unreadable:
            processed.counts.add_read(row.source)
            processed.counts.drop("unreadable", row.source, {"source": row.source, "note": row.message})
        return processed

    def _add(self, trace: RawTrace, processed: ProcessedChunk) -> None:
        try:
            record = trace_to_record(trace)
        except DataError as error:
            if not self.config.skip_broken:
                raise
            processed.counts.drop("unreadable", trace.source, trace_example(trace, str(error)))
            return
        if not record["steps"] and (name := unknown_tag(record["answer"])):
            processed.counts.unknown_tags[name] += 1
        problem = f"{record['context']}\n{record['task']}".strip()
        reason, note = failed_filter(trace, record, self.config.filters), ""
        if reason is None and self._decontaminator is not None:
            found_in = self._decontaminator.hits(problem)
            if found_in is not None:
                reason, note = "contaminated", f"found in {found_in}"
        if reason is not None:
            processed.counts.drop(reason, trace.source, trace_example(trace, note))
            return
        record["domain"] = self._domain(trace, record, problem)
        processed.candidates.append(
            Candidate(
                record,
                context_key(record["context"] or problem),
                self._duplicates.sketch(record["context"], record["steps"]),
                contradicts_chain(record["steps"], record["answer"]),
            )
        )

    def _domain(self, trace: RawTrace, record: Record, problem: str) -> str:
        if self._tagger is None:
            return self.config.domain or "general"
        chain = "\n".join([*record["steps"], record["answer"]])
        return self._tagger.tag(problem, trace.domain, chain)


def process_chunks(
    chunks: Iterable[Chunk], processor: ChunkProcessor, num_proc: int = 1
) -> Generator[ProcessedChunk, None, None]:
    """Yield what is left of each chunk, in order. Each of several processes makes a processor of its own.

    At most `num_proc + 2` chunks are in memory, so that reading never runs far ahead of writing.

    Raises:
        DataError: from a chunk, or because a worker process died.
    """
    if num_proc == 1:
        yield from map(processor, chunks)
        return
    pending: deque[Future[ProcessedChunk]] = deque()
    pool = ProcessPoolExecutor(
        num_proc,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(processor.config,),
    )
    try:
        for chunk in chunks:
            pending.append(pool.submit(_process_in_worker, chunk))
            if len(pending) > num_proc + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker process died, most likely because memory ran out. Finished chunks are kept: run the same "
            "command again with a smaller num_proc."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker_processor: ChunkProcessor | None = None


def _start_worker(config: PrepareConfig) -> None:
    global _worker_processor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_processor = ChunkProcessor(config)


def _end_with_parent() -> None:
    """Without this a worker would wait forever after the main process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process_in_worker(chunk: Chunk) -> ProcessedChunk:
    assert _worker_processor is not None
    return _worker_processor(chunk)
