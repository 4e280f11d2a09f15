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
from pathlib import Path

import numpy as np

from hf_reason.data.clean.contradictions import contradicts_chain
from hf_reason.data.clean.decontaminate import Decontaminator
from hf_reason.data.clean.dedup import sketches
from hf_reason.data.clean.domains import DomainTagger
from hf_reason.data.clean.filters import failed_filter
from hf_reason.data.clean.splits import context_keys
from hf_reason.data.images import family_key, problem_key
from hf_reason.data.read.image_checks import check_images
from hf_reason.data.read.other_tags import unknown_tag
from hf_reason.data.read.sources import trace_to_record
from hf_reason.data.record import DataError, RawTrace, Record

from .chunks import RECORD_KEY, Chunk, ChunkFiles, ProcessedChunk
from .counts import Counts, trace_example
from .settings import PrepareConfig


class ChunkProcessor:
    """Turns a chunk into records. Loads the domain rules and the evaluation files once."""

    def __init__(self, config: PrepareConfig):
        self.config = config
        self._tagger = DomainTagger(config.domain_rules) if config.domain is None else None
        self._decontaminator = Decontaminator(config.decontaminate) if config.decontaminate else None

    def __call__(self, chunk: Chunk) -> ProcessedChunk:
        counts = Counts()
        records = []
        for trace in chunk.traces:
            counts.add_read(trace.source)
            if (record := self._record(trace, counts)) is not None:
                records.append(record)
        for row in chunk.unreadable:
            counts.add_read(row.source)
            counts.drop("unreadable", row.source, {"source": row.source, "note": row.message})
        return ProcessedChunk(counts, records, _keys(records))

    def _record(self, trace: RawTrace, counts: Counts) -> Record | None:
        """The record of a trace, or `None` if it is dropped."""
        if trace.images:
            trace, fault = check_images(trace, keep=self.config.broken_images == "keep")
            if fault and self.config.broken_images == "drop":
                counts.drop("broken_image", trace.source, trace_example(trace, fault))
                return None
            counts.add_images(len(trace.images), fault)
        try:
            record = trace_to_record(trace)
        except DataError as error:
            if not self.config.skip_broken:
                raise
            counts.drop("unreadable", trace.source, trace_example(trace, str(error)))
            return None
        if not record["steps"] and (name := unknown_tag(record["answer"])):
            counts.unknown_tags[name] += 1
        problem = _problem(record)
        reason, note = failed_filter(trace, record, self.config.filters), ""
        if reason is None and self._decontaminator is not None:
            found_in = self._decontaminator.hits(problem)
            if found_in is not None:
                reason, note = "contaminated", f"found in {found_in}"
        if reason is not None:
            counts.drop(reason, trace.source, trace_example(trace, note))
            return None
        record["domain"] = self._domain(trace, record, problem)
        return record

    def _domain(self, trace: RawTrace, record: Record, problem: str) -> str:
        if self._tagger is None:
            return self.config.domain or "general"
        chain = "\n".join([*record["steps"], record["answer"]])
        return self._tagger.tag(problem, trace.domain, chain)


def _problem(record: Record) -> str:
    return f"{record['context']}\n{record['task']}".strip()


def _keys(records: list[Record]) -> np.ndarray:
    keys = np.zeros(len(records), dtype=RECORD_KEY)
    for part in (
        sketches((problem_key(record), record["steps"]) for record in records),
        context_keys(family_key(record) or _problem(record) for record in records),
    ):
        for name in part.dtype.names or ():
            keys[name] = part[name]
    keys["suspicious"] = [contradicts_chain(record["steps"], record["answer"]) for record in records]
    return keys


def process_chunks(
    chunks: Iterable[tuple[int, Chunk]], config: PrepareConfig, folder: Path, num_proc: int = 1
) -> Generator[int, None, None]:
    """Process chunks and store what is left of them in `folder`; each process makes a processor of its own.

    At most `num_proc + 2` chunks are in memory, so that reading never runs far ahead of the rest.

    Yields:
        The number of traces and unreadable rows of each chunk, in order.

    Raises:
        DataError: from a chunk, or because a worker process died.
    """
    if num_proc == 1:
        store = ChunkStore(config, folder)
        for numbered in chunks:
            yield store(*numbered)
        return
    pending: deque[Future[int]] = deque()
    pool = ProcessPoolExecutor(
        num_proc, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(config, folder)
    )
    try:
        for numbered in chunks:
            pending.append(pool.submit(_process_in_worker, *numbered))
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


class ChunkStore:
    """Processes chunks and stores what is left of them.

    Args:
        config: The settings.
        folder: Where to.
    """

    def __init__(self, config: PrepareConfig, folder: Path):
        self._processor, self._files = ChunkProcessor(config), ChunkFiles(folder)

    def __call__(self, index: int, chunk: Chunk) -> int:
        """Process a chunk; one that is finished already stays. Returns the number of its traces and rows."""
        if not self._files.is_finished(index):
            self._files.add(index, self._processor(chunk))
        return len(chunk.traces) + len(chunk.unreadable)


_worker_store: ChunkStore | None = None


def _start_worker(config: PrepareConfig, folder: Path) -> None:
    global _worker_store
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's business.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker_store = ChunkStore(config, folder)


def _end_with_parent() -> None:
    """Without this a worker would wait forever after the main process was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _process_in_worker(index: int, chunk: Chunk) -> int:
    assert _worker_store is not None
    return _worker_store(index, chunk)
