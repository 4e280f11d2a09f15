"""The preparation on Ray Data: the same functions on the same chunks, on as many machines as the cluster has.

Every machine must see `output_dir` under the same path, since whoever processes a chunk stores it there. A worker
that dies is started again by Ray, and what it had not stored is done once more.
"""

import logging
import pickle
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hf_reason.data.clean.dedup import Members, bucket_members
from hf_reason.data.clean.key_file import KeyFile
from hf_reason.data.record import DataError

from .chunks import RECORD_KEY, Chunk
from .settings import PrepareConfig
from .workers import ChunkStore

# Chunks for each process in one execution of Ray Data.
_WINDOW = 16


def process_chunks(
    chunks: Iterable[tuple[int, Chunk]], config: PrepareConfig, folder: Path, num_proc: int
) -> Generator[int, None, None]:
    """As `workers.process_chunks`, in the cluster; the counts come in any order.

    Args:
        chunks: Numbered chunks.
        config: The settings.
        folder: Where to.
        num_proc: Number of processes in the cluster.
    """
    import ray
    from ray.data import ActorPoolStrategy, from_items

    _quiet()
    numbered = iter(chunks)
    where = _absolute(config), str(folder.resolve())
    while window := list(islice(numbered, _WINDOW * num_proc)):
        items = [{"index": index, "chunk": pickle.dumps(chunk)} for index, chunk in window]
        results = from_items(items, override_num_blocks=len(items)).map_batches(
            _Store, fn_constructor_args=where, batch_size=1, compute=ActorPoolStrategy(size=num_proc), num_cpus=1
        )
        del window, items
        try:
            for row in results.iter_rows():
                yield int(row["count"])
        except ray.exceptions.RayError as error:
            raise _cause(error) from error


class _Store:
    def __init__(self, config: PrepareConfig, folder: str):
        self._store = ChunkStore(config, Path(folder))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[int]]:
        # the driver pickled it a moment ago
        pairs = zip(batch["index"], batch["chunk"], strict=True)
        return {"count": [self._store(int(index), pickle.loads(chunk)) for index, chunk in pairs]}


def members_on_ray(path: Path, num_proc: int) -> Members:
    """Finds who may be a duplicate of whom, each band of the signatures in a task of its own.

    Args:
        path: The file of the keys (`RECORD_KEY`).
        num_proc: Number of processes in the cluster.
    """

    def members(own: np.ndarray, bands: Sequence[slice]) -> list[tuple[np.ndarray, np.ndarray]]:
        import ray
        from ray.data import ActorPoolStrategy, from_items

        _quiet()
        rows = ray.put(own)
        items = [{"number": number, "start": band.start, "stop": band.stop} for number, band in enumerate(bands)]
        found = from_items(items, override_num_blocks=len(items)).map_batches(
            _Bands,
            fn_constructor_args=(str(path.resolve()), rows),
            batch_size=1,
            compute=ActorPoolStrategy(size=num_proc),
            num_cpus=1,
        )
        parts = {
            int(row["number"]): (
                np.frombuffer(row["places"], dtype=np.uint32),
                np.frombuffer(row["buckets"], dtype=np.uint64),
            )
            for row in found.iter_rows()
        }
        return [parts[number] for number in range(len(bands))]

    return members


class _Bands:
    def __init__(self, path: str, own: Any):
        import ray

        self._path, self._own = Path(path), ray.get(own)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        with KeyFile(self._path, RECORD_KEY) as keys:
            found = [
                bucket_members(keys, self._own, slice(int(start), int(stop)))
                for start, stop in zip(batch["start"], batch["stop"], strict=True)
            ]
        return {
            "number": batch["number"],
            "places": [places.tobytes() for places, _ in found],
            "buckets": [buckets.tobytes() for _, buckets in found],
        }


def _quiet() -> None:
    """There is a progress bar of our own."""
    from ray.data import DataContext

    DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _absolute(config: PrepareConfig) -> PrepareConfig:
    """The settings with the files they name as seen from any folder; names on the Hub stay."""

    def of(path: str) -> str:
        return str(Path(path).resolve()) if Path(path).exists() else path

    rules = of(config.domain_rules) if config.domain_rules else None
    return replace(config, decontaminate=[of(path) for path in config.decontaminate], domain_rules=rules)


def _cause(error: BaseException) -> BaseException:
    """The error of the data inside of Ray's, or Ray's."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DataError):
            return found
        found = getattr(found, "cause", None) or found.__cause__
    return error
