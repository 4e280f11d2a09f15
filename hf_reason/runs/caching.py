"""What the end of a teacher's caching says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def cache_summary(meta: Mapping[str, Any], folder: Path, error: Mapping[str, float], student: str | None) -> str:
    """Size of a cache and the error of its KL.

    Args:
        meta: `CacheBuilder.finish()`.
        folder: Where it lies.
        error: `CacheBuilder.error()`; empty if it was not measured.
        student: Name of the model that it was measured against.
    """
    records = sum(meta["shards"].values())
    lines = [
        f"{records} records, {meta['tokens']} target tokens, {meta['bytes_per_token']:.1f} bytes a token at "
        f"k={meta['k']} in {len(meta['shards'])} files: {folder}"
    ]
    if meta["left_out"]:
        lines.append(f"{meta['left_out']} records over max_length={meta['max_length']} were left out.")
    if error:
        side = student or "the teacher itself at twice its temperature (give --student for a real one)"
        lines.append(
            f"KL to {side}: {error['kl']:.5f} nats a token over the vocabulary, {error['kl_cache']:.5f} from the "
            f"cache: error {error['relative_error']:.3%}; the k tokens hold {error['mass']:.4%} of the mass "
            f"(first {error['records']:.0f} records)."
        )
    return "\n".join(lines)
