"""Rows of Parquet and Arrow files, of data sets that `save_to_disk` wrote, and of Hub data sets."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from hf_reason._network import why_unreachable

from .rows import BrokenRow, OnBroken, Row, SourceError

# Rows at once; fewer where they may hold images.
_BATCH, _BATCH_OF_BYTES = 256, 16
# Files that `datasets` writes beside the data.
BOOKKEEPING = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}


def _without_padding(value: Any) -> Any:
    """Arrow gives each object of a column the keys of all others, as null; here they go again."""
    if isinstance(value, dict):
        return {key: _without_padding(item) for key, item in value.items() if item is not None}
    return [_without_padding(item) for item in value] if isinstance(value, list) else value


def _row(label: str, number: int, values: dict[str, Any]) -> Row:
    return Row(label, number, {name: _without_padding(value) for name, value in values.items()})


def read_parquet(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of a Parquet file."""
    return _rows(_parquet_batches(path), label, "Parquet", on_broken)


def read_arrow(path: Path, label: str, on_broken: OnBroken, texts: bool) -> Iterator[Row]:
    """The rows of an Arrow file, in the format of files or in that of streams (as `datasets` writes it)."""
    return _rows(_arrow_batches(path), label, "Arrow", on_broken)


def _parquet_batches(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        size = _BATCH_OF_BYTES if "binary" in str(file.schema_arrow.types) else _BATCH
        yield from file.iter_batches(batch_size=size)


def _arrow_batches(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file:
        whole = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)
        numbers = range(reader.num_record_batches) if whole else ()
        yield from map(reader.get_batch, numbers) if whole else reader


def _rows(batches: Iterator[Any], label: str, kind: str, on_broken: OnBroken) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in batches:
            for values in batch.to_pylist():
                number += 1
                yield _row(label, number, values)
    except pa.ArrowException as error:
        after = f" after row {number}" if number else ""
        message = (
            f"{label}: not a readable {kind} file{after} ({error}). If it is incomplete, copy or download it again."
        )
        on_broken(BrokenRow(label, number + 1, message))


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def read_saved(folder: Path, label: str) -> Iterator[Row]:
    """The rows of a data set that `save_to_disk` wrote, one split after the other."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise SourceError(f"{label}: not a data set that save_to_disk wrote completely ({error}).") from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    for name, split in splits.items():
        for number, values in enumerate(_undecoded(split), 1):
            yield _row(f"{label}/{name}".rstrip("/"), number, dict(values))


def _undecoded(data: Any) -> Iterator[dict[str, Any]]:
    """The rows of a data set, with images as references: decoding and encoding them again would change them."""
    if "Image(" not in str(data.features):
        yield from data
        return
    for batch in data.with_format("arrow").iter(batch_size=_BATCH_OF_BYTES):
        yield from batch.to_pylist()


def read_hub(name: str, config: str | None, split: str) -> Iterator[Row]:
    """The rows of one split of a Hub data set, streamed."""
    import datasets
    from huggingface_hub import constants

    label = name if config is None else f"{name}:{config}"
    try:
        stream: Any = datasets.load_dataset(name, config, split=split, streaming=True)
        # images stay files, where the features are known; where they are not, nothing is decoded
        rows = iter(stream.decode(False) if getattr(stream, "features", None) else stream)
        first = list(next(rows, {}).items())
    except Exception as error:  # the libraries below raise dozens of kinds
        offline = " The Hub is switched off (HF_HUB_OFFLINE)." if constants.HF_HUB_OFFLINE else ""
        reason = why_unreachable(error) or error
        raise SourceError(
            f"Cannot read split {split!r} of the Hub data set {label}: {reason}.{offline} Check the name "
            "(user/name:split or user/name:configuration:split) and the network, or download it and give the path."
        ) from error
    for number, values in enumerate(chain([dict(first)] if first else [], rows), 1):
        yield _row(label, number, dict(values))
