"""Results of deterministic requests, so that the same request is computed once: on disk, or in Redis.

A cache that cannot be read is a miss, with one warning; no request fails because of it.
"""

from typing import Any

from .cache_base import CacheStats, ResultCache, Value, cache_key, is_deterministic

__all__ = ["CacheStats", "NoCache", "ResultCache", "Value", "cache_key", "is_deterministic", "open_cache"]

REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
DEFAULT_MAX_BYTES = 1 << 30


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
