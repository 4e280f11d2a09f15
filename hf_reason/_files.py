"""Files that are there whole or not at all, and written by one process; and the one hash of the project."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_first_process() -> bool:
    """Whether this is the first process of a launch, or the only one.

    transformers calls `Trainer._save` on every process, and makes the folder on the first alone.
    """
    return os.environ.get("RANK", "0") == "0"


def write_atomically(path: str | os.PathLike[str], content: bytes | str | Callable[[Path], Any]) -> None:
    """Write a file under a name of this process's own, then rename it: two processes may write the same file at once.

    Args:
        path: The file; its folder must exist.
        content: Bytes, text (UTF-8), or a function that writes the file at the path it is given (for libraries that
            write files themselves; the path keeps the suffix of `path`).
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        if callable(content):
            content(temporary)
        else:
            with open(temporary, "wb") as file:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())  # else a power cut can leave the name without the content
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json_atomically(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """`write_atomically` of a value as JSON, with characters as they are and a newline at the end."""
    write_atomically(path, json.dumps(value, ensure_ascii=False, indent=indent) + "\n")


def digest(*parts: str | bytes, size: int = 8) -> str:
    """A stable hash (BLAKE2b) of the parts in order, as `2 * size` hexadecimal digits."""
    hashed = hashlib.blake2b(digest_size=size)
    for part in parts:
        hashed.update(part.encode("utf-8") if isinstance(part, str) else part)
    return hashed.hexdigest()


def file_digest(*paths: str | os.PathLike[str], size: int = 8, prefix: str = "") -> str:
    """`digest` of `prefix` and the content of the files in order, read in blocks."""
    hashed = hashlib.blake2b(prefix.encode("utf-8"), digest_size=size)
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                hashed.update(block)
    return hashed.hexdigest()
