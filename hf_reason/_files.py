"""Files that are there whole or not at all, and written by one process."""

import os
from pathlib import Path


def is_first_process() -> bool:
    """Whether this is the first process of a launch, or the only one.

    transformers calls `Trainer._save` on every process, and makes the folder on the first alone.
    """
    return os.environ.get("RANK", "0") == "0"


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a name of this process's own, then rename: two processes may write the same file at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
