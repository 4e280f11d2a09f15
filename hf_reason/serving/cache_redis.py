"""The cache of results in Redis, for several machines (extra `redis`)."""

import logging
import time
from typing import Any
from urllib.parse import urlsplit

from .cache_base import CacheStats, Value, decode_value, encode_value

_log = logging.getLogger(__name__)
_PREFIX = "hf_reason:result:"
_TTL = 7 * 24 * 3600.0
# Seconds. A server that is away must not slow each request down: it is asked again after the pause.
_TIMEOUT, _PAUSE = 0.5, 10.0


class RedisCache:
    """A `ResultCache` in Redis. Its bound is the server's: `maxmemory`, with `maxmemory-policy allkeys-lru`.

    Args:
        url: `redis://[[user]:password@]host[:port][/database]`, `rediss://` (TLS) or `unix://`.
        ttl: Seconds that a result is kept after its last use; default 7 days.

    Raises:
        ImportError: without the package `redis`.
        ValueError: for a URL that cannot be read.
    """

    def __init__(self, url: str, *, ttl: float | None = None) -> None:
        try:
            import redis
        except ImportError as error:
            raise ImportError("A cache in Redis needs the package redis: pip install 'hf_reason[redis]'.") from error
        self._errors = (redis.RedisError, OSError)
        self._client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
        self._ttl = int((ttl or _TTL) * 1000)
        self._stats = CacheStats()
        self._warned = False
        self._away_until = 0.0
        # without the password, for messages
        self.place = f"{urlsplit(url).scheme}://{urlsplit(url).hostname or urlsplit(url).path}"

    def get(self, key: str) -> dict[str, Any] | None:
        value = None
        if time.monotonic() >= self._away_until:
            try:
                stored: Any = self._client.getex(_PREFIX + key, px=self._ttl)
                value = None if stored is None else decode_value(stored)
            except ValueError as error:
                self._failed(error, pause=False)
            except self._errors as error:
                self._failed(error)
        if value is None:
            self._stats.misses += 1
        else:
            self._stats.hits += 1
        return value

    def set(self, key: str, value: Value) -> None:
        stored = encode_value(value)
        if time.monotonic() < self._away_until:
            return
        try:
            self._client.set(_PREFIX + key, stored, px=self._ttl)
        except self._errors as error:
            self._failed(error)

    def stats(self) -> CacheStats:
        # Redis has no count of the keys of a prefix that is cheap to ask for
        return CacheStats(**vars(self._stats))

    def clear(self) -> None:
        for key in self._client.scan_iter(f"{_PREFIX}*", count=1000):
            self._client.delete(key)

    def close(self) -> None:
        self._client.close()

    def _failed(self, error: Exception, pause: bool = True) -> None:
        self._stats.errors += 1
        if pause:
            self._away_until = time.monotonic() + _PAUSE
        if not self._warned:
            _log.warning("The cache %s cannot be used (%s); results are computed again.", self.place, error)
            self._warned = True
