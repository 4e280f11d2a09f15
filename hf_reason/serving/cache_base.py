"""What every cache of results has: keys, counts, and JSON as its values.

JSON, never pickles: whoever can write to the cache must not be able to run code in the server.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hf_reason._files import digest

Value = Mapping[str, Any]


def cache_key(
    *,
    revision: str,
    prompt_ids: Sequence[int],
    settings: Mapping[str, Any],
    adapter: str | None = None,
    api_key: str | None = None,
) -> str:
    """The key of a result: equal keys mean equal outputs.

    Args:
        revision: Which weights: a hash of them or a commit. A name is not enough: a folder can be overwritten.
        prompt_ids: The prompt's tokens, after the chat template.
        settings: Everything that changes the output: budgets, sampling, seed, stops, number of choices. The order of
            its keys does not matter.
        adapter: Name and revision of the adapter; `None` without one.
        api_key: The client's, or its hash, where keys are isolated from each other: each has results of its own.

    Returns:
        64 hexadecimal digits; neither prompt nor API key can be read from it.

    Raises:
        TypeError: for settings that JSON does not have.
    """
    parts = [revision, adapter, list(map(int, prompt_ids)), settings, api_key]
    return digest(json.dumps(parts, ensure_ascii=True, sort_keys=True, separators=(",", ":")), size=32)


def is_deterministic(settings: Mapping[str, Any]) -> bool:
    """Whether a request gives the same result each time: greedy (temperature 0, or no sampling), or with a seed."""
    if settings.get("seed") is not None:
        return True
    temperature = settings.get("temperature")
    return temperature == 0 or (temperature is None and not settings.get("do_sample"))


@dataclass
class CacheStats:
    """Counts of a cache.

    Attributes:
        hits, misses: Look-ups of this process.
        evictions: Results that this process removed to stay within the bound.
        errors: Look-ups and stores of this process that failed; such a look-up is also a miss.
        entries: Results that are stored, by any process; `None` if that cannot be told.
        bytes: Bytes of them.
    """

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    errors: int = 0
    entries: int | None = None
    bytes: int | None = None


class ResultCache(Protocol):
    """What the app needs of a cache. All methods may be called from several threads."""

    def get(self, key: str) -> dict[str, Any] | None:
        """The result, or `None`; never raises for a cache that is damaged or away."""

    def set(self, key: str, value: Value) -> None:
        """Store a result.

        Raises:
            TypeError: if the value is no JSON.
        """

    def stats(self) -> CacheStats:
        """Counts since the start and what is stored now."""

    def clear(self) -> None:
        """Remove all results."""

    def close(self) -> None:
        """Close files and connections."""


def encode_value(value: Value) -> bytes:
    """A result as it is stored.

    Raises:
        TypeError: if it is no JSON object.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"A cached result is a mapping, not {type(value).__name__}.")
    return json.dumps(dict(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode_value(stored: bytes) -> dict[str, Any]:
    """The inverse of `encode_value`.

    Raises:
        ValueError: for anything else.
    """
    value = json.loads(stored.decode("utf-8", "surrogatepass"))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value
