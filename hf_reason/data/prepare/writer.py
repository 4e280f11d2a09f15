"""Write the final `datasets` folder, row by row and byte for byte the same.

The folder is what `DatasetDict.save_to_disk` writes and `datasets.load_from_disk` reads. It is written here because
`save_to_disk` needs the whole split as a table first and stamps it with a random fingerprint.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._files import file_digest, write_atomically, write_json_atomically
from hf_reason.data.clean.splits import SPLITS
from hf_reason.data.images import IMAGES
from hf_reason.data.record import Record, record_features

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

# Rows and bytes of images of a record batch, whichever comes first.
_BATCH, _BATCH_BYTES = 1000, 64 << 20
_FILE_BYTES = 500_000_000


class SplitWriter:
    """Writes the records of one split into `folder`, a new Arrow file every 500 MB.

    Record batches hold 1,000 rows whatever the size of the chunks they came in, so that the bytes depend on the
    rows only.

    Args:
        folder: Of the split; made here.
        split: Its name.
        features: Of the rows; default: those of records.
    """

    def __init__(self, folder: Path, split: str, features: "Features | None" = None):
        self._folder, self._split = folder, split
        self._features = features or record_features()
        self._schema = self._features.arrow_schema
        self._buffer: list[Record] = []
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._files: list[Path] = []
        self._bytes = self._image_bytes = 0
        self.rows = 0
        folder.mkdir(parents=True)
        self._open()

    def add(self, record: Record) -> None:
        if IMAGES in self._features:
            record = {**record, "images": record.get("images") or [], "captions": record.get("captions") or []}
            self._image_bytes += sum(len(image["bytes"] or b"") for image in record["images"])
        self._buffer.append(record)
        self.rows += 1
        if len(self._buffer) == _BATCH or self._image_bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        """Finish the files and write `state.json` and `dataset_info.json`."""
        from datasets import DatasetInfo

        self._flush()
        self._shut()
        fingerprint = file_digest(*self._files, prefix=self._split)
        names = []
        for index, path in enumerate(self._files):
            names.append(f"data-{index:05d}-of-{len(self._files):05d}.arrow")
            path.rename(self._folder / names[-1])
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": self._split,
        }
        write_json_atomically(self._folder / "state.json", state)
        DatasetInfo(features=self._features).write_to_directory(str(self._folder), pretty_print=True)

    def _open(self) -> None:
        import pyarrow as pa

        self._files.append(self._folder / f"data-{len(self._files):05d}.arrow")
        self._writer = pa.ipc.new_stream(str(self._files[-1]), self._schema)
        self._bytes = 0

    def _shut(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._buffer:
            return
        if self._bytes >= _FILE_BYTES:
            self._shut()
            self._open()
        table = pa.Table.from_pylist(self._buffer, schema=self._schema)
        assert self._writer is not None
        self._writer.write_table(table)
        self._bytes += table.nbytes
        self._buffer, self._image_bytes = [], 0


def open_splits(folder: Path, sizes: Mapping[str, float], images: bool = False) -> dict[str, SplitWriter]:
    """A writer for each split whose size is above 0, and the `dataset_dict.json` that lists them."""
    features = record_features(images)
    writers = {name: SplitWriter(folder / name, name, features) for name in SPLITS if sizes[name] > 0}
    write_atomically(folder / "dataset_dict.json", json.dumps({"splits": list(writers)}))
    return writers
