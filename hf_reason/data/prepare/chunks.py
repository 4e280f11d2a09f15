"""Chunks of a preparation: of traces before, and of records after, in memory and as the files of the work folder.

Every finished chunk is three files: the records (Arrow stream), their keys (raw numpy), and last the counts (JSON),
whose presence says that the chunk is finished. Whoever processes a chunk stores it, in whatever process or machine.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hf_reason._files import write_atomically, write_json_atomically
from hf_reason.data.clean.dedup import SKETCH
from hf_reason.data.clean.key_file import KeyFile
from hf_reason.data.clean.splits import CONTEXT_KEY
from hf_reason.data.read.rows import BrokenRow
from hf_reason.data.record import RawTrace, Record, record_features

from .counts import Counts

# Bytes of images with which a chunk is full, however few traces it has.
IMAGE_BYTES = 32 << 20

RECORD_KEY = np.dtype([*SKETCH.descr, *CONTEXT_KEY.descr, ("suspicious", "?")])
"""What the later stages need to know of a record: its sketch, the key of its context, and whether its answer
contradicts its chain."""


@dataclass
class Chunk:
    """Consecutive traces, and the rows between them that could not be read."""

    traces: list[RawTrace] = field(default_factory=list)
    unreadable: list[BrokenRow] = field(default_factory=list)
    image_bytes: int = 0

    def add(self, trace: RawTrace) -> None:
        """Add a trace; what the images weigh that it carries is counted."""
        self.traces.append(trace)
        self.image_bytes += sum(len(image["bytes"] or b"") for image in trace.images)


@dataclass
class ProcessedChunk:
    """What is left of a chunk.

    Attributes:
        counts: Of what was read and of what was dropped so far; what is left may still be a duplicate.
        records: The records that passed, in the order of the traces.
        keys: `RECORD_KEY`, [records].
    """

    counts: Counts
    records: list[Record]
    keys: np.ndarray


class ChunkFiles:
    """The finished chunks in a folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path):
        self.path = path

    def is_finished(self, index: int) -> bool:
        return self._file(index, "json").exists()

    def finished(self) -> int:
        """How many chunks are finished, up to the first that is not."""
        count = 0
        while self.is_finished(count):
            count += 1
        return count

    def add(self, index: int, chunk: ProcessedChunk) -> None:
        """Store a finished chunk."""
        import pyarrow as pa

        schema = record_features(any("images" in record for record in chunk.records)).arrow_schema
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.Table.from_pylist(chunk.records, schema=schema))
        write_atomically(self._file(index, "arrow"), sink.getvalue().to_pybytes())
        write_atomically(self._file(index, "keys"), chunk.keys.tobytes())
        write_json_atomically(self._file(index, "json"), chunk.counts.to_dict())

    def counts(self) -> Counts:
        """The counts of all finished chunks together."""
        merged = Counts()
        for index in range(self.finished()):
            merged.merge(Counts.from_dict(json.loads(self._file(index, "json").read_text(encoding="utf-8"))))
        return merged

    def records(self) -> Iterator[Record]:
        """Every record, in order. Read through a stream, not a memory map, so that pages are given back."""
        import pyarrow as pa

        for index in range(self.finished()):
            with pa.OSFile(str(self._file(index, "arrow"))) as file, pa.ipc.open_stream(file) as reader:
                yield from reader.read_all().to_pylist()

    def has_images(self) -> bool:
        """Whether a record has images."""
        import pyarrow as pa

        for index in range(self.finished()):
            with pa.OSFile(str(self._file(index, "arrow"))) as file, pa.ipc.open_stream(file) as reader:
                if "images" in reader.schema.names:
                    return True
        return False

    def keys(self) -> KeyFile:
        """The keys of every record, in order (`RECORD_KEY`)."""
        path = self.path / "keys"
        with open(path, "wb") as together:
            for index in range(self.finished()):
                with open(self._file(index, "keys"), "rb") as part:
                    shutil.copyfileobj(part, together)
        return KeyFile(path, RECORD_KEY)

    def remove(self) -> None:
        """Delete all of them, finished or not."""
        for stale in self.path.glob("chunk-*"):
            stale.unlink()

    def _file(self, index: int, kind: str) -> Path:
        return self.path / f"chunk-{index:06d}.{kind}"
