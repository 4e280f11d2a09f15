"""Key files in memory's stead, for tests of the duplicates and the splits."""

import tempfile
from pathlib import Path

from hf_reason.data.clean.dedup import SKETCH, find_duplicates, sketches
from hf_reason.data.clean.key_file import KeyFile


def key_file(rows):
    """A `KeyFile` with these rows."""
    with tempfile.TemporaryDirectory() as folder:  # mapped, so that the name may go
        path = Path(folder, "keys")
        path.write_bytes(rows.tobytes())
        return KeyFile(path, rows.dtype)


def verdicts(texts, threshold=0.8):
    """`"exact"`, `"near"` or `None` for each pair of context and steps."""
    rows = sketches(texts)
    assert rows.dtype == SKETCH
    with key_file(rows) as keys:
        found = find_duplicates(keys, threshold)
    return [(None, "exact", "near")[kind] for kind in found.kind]
