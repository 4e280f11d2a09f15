"""Results of deterministic requests, so that the same request is computed once: on disk, or in Redis.

Values are JSON, never pickles: whoever can write to the cache must not be able to run code in the server. A cache that
cannot be read is a miss, with one warning; no request fails because of it.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hf_reason._files import digest

_log = logging.getLogger(__name__)
Value = Mapping[str, Any]
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
DEFAULT_MAX_BYTES = 1 << 30


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


class NoCache:
    """The cache that holds nothing."""

    def get(self, key: str) -> dict[str, Any] | None:
        return None

    def set(self, key: str, value: Value) -> None:
        pass

    def stats(self) -> CacheStats:
        return CacheStats(entries=0, bytes=0)

    def clear(self) -> None:
        pass

    def close(self) -> None:
        pass


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


def open_cache(place: str | None, *, max_bytes: int = DEFAULT_MAX_BYTES, ttl: float | None = None) -> ResultCache:
    """The cache at a place.

    Args:
        place: A file (made if it is missing), a URL `redis://host:port/0`, or `None` for no cache.
        max_bytes: Bound of the file. Redis has its own: set `maxmemory` and `maxmemory-policy allkeys-lru` there.
        ttl: Seconds that a result is kept; `None`: as long as there is room (Redis: 7 days).

    Raises:
        ValueError: for a bound below 1, or a place that cannot be one.
        ImportError: for a Redis URL without the package `redis`.
    """
    if max_bytes < 1 or (ttl is not None and ttl <= 0):
        raise ValueError(f"max_bytes and ttl must be positive, not {max_bytes} and {ttl}.")
    if place is None:
        return NoCache()
    if place.startswith(REDIS_SCHEMES):
        from .cache_redis import RedisCache

        return RedisCache(place, ttl=ttl)
    if "://" in place:
        raise ValueError(f"{place}: not a cache. Give a file, or a URL that begins with {', '.join(REDIS_SCHEMES)}.")
    from .cache_disk import DiskCache

    return DiskCache(place, max_bytes=max_bytes, ttl=ttl)
