"""What identifies the weights of a served model, so that a cached result never outlives them."""

import os
from pathlib import Path
from typing import Any

from hf_reason._files import digest

# Files below this size are hashed; of the larger ones (weights), size and time of the last change are.
_SMALL = 1_000_000
_IGNORED = ("checkpoint-", "evaluation")


def revision_of(name: str, model: Any = None) -> str:
    """16 hexadecimal digits that change when a model's folder changes, or its commit on the Hub.

    Args:
        name: Folder or Hub name.
        model: The loaded model, whose config knows the commit.
    """
    folder = Path(name)
    if not folder.is_dir():
        return digest(name, str(getattr(getattr(model, "config", None), "_commit_hash", None)))
    parts: list[str | bytes] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.relative_to(folder).parts[0].startswith(_IGNORED):
            continue
        found = os.stat(path)
        content = path.read_bytes() if found.st_size < _SMALL else f"{found.st_size} {found.st_mtime_ns}"
        parts += [str(path.relative_to(folder)), "\x1f", content, "\x1f"]
    return digest(*parts)


def written_at(name: str) -> int:
    """When a model's folder was last changed, in seconds since 1970; 0 for a name on the Hub."""
    files = [path for path in Path(name).glob("*") if path.is_file()] if Path(name).is_dir() else []
    return max((int(os.stat(path).st_mtime) for path in files), default=0)
