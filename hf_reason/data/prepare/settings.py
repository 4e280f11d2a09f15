"""What a preparation was called with, as plain JSON.

It decides whether a killed run may go on and whether a finished result is up to date.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_reason.data.clean.filters import FilterConfig
from hf_reason.data.record import DataError
from hf_reason.version import __version__

# Libraries whose version can change which records stay.
_LIBRARIES = ("rensa", "math-verify")


def describe_settings(
    sources: Sequence[str],
    *,
    schema: str | None,
    history: str,
    skip_broken: bool,
    filters: FilterConfig,
    domain_rules: str | None,
    decontaminate: Sequence[str],
    duplicate_threshold: float,
    validation_share: float,
    test_share: float,
) -> dict[str, Any]:
    """Everything that decides the result. Files are named by their last component and known by their content.

    Raises:
        DataError: if a file cannot be read, or a share or threshold is out of range.
    """
    if not 0 < duplicate_threshold <= 1:
        raise DataError(f"duplicate_threshold {duplicate_threshold} must be above 0 and at most 1.")
    if validation_share < 0 or test_share < 0 or validation_share + test_share >= 1:
        raise DataError(
            f"validation_share {validation_share} and test_share {test_share}: they must not be negative, and "
            "together they must leave something to train on (less than 1)."
        )
    settings = {
        "sources": [entry for source in sources for entry in _describe_source(source)],
        "schema": schema,
        "history": history,
        "skip_broken": skip_broken,
        "filters": asdict(filters),
        "domain_rules": _describe_file(Path(domain_rules)) if domain_rules else None,
        "decontaminate": [_describe_file(Path(path)) for path in decontaminate],
        "duplicate_threshold": duplicate_threshold,
        "validation_share": validation_share,
        "test_share": test_share,
        "versions": {"hf_reason": __version__} | {name: version(name) for name in _LIBRARIES},
    }
    return json.loads(json.dumps(settings))


def fingerprint(settings: dict[str, Any]) -> str:
    """A hash (16 hex digits) of the settings."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _describe_source(source: str) -> list[dict[str, Any]]:
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
        return [_describe_file(file, file.relative_to(path.parent).as_posix()) for file in files]
    if path.exists():
        return [_describe_file(path)]
    return [{"hub": source, "revision": _hub_revision(source)}]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _describe_file(path: Path, name: str | None = None) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return {"name": name or path.name, "bytes": size, "blake2b": digest.hexdigest()}


def _hub_revision(name: str) -> str | None:
    """The commit that the name stands for now; `None` if the Hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name.split(":")[0], timeout=10).sha
    except Exception:  # offline, no such data set, no permission: the reader will say it better
        return None
