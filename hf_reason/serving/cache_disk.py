"""The cache of results in one SQLite file, which several processes share. What was used longest ago goes first.

SQLite itself, because diskcache's last release is of 2023 and it stores pickles.
"""

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from .cache_base import CacheStats, Value, decode_value, encode_value
from .sqlite import Database

_log = logging.getLogger(__name__)
# "hrrc" in ASCII
_APPLICATION_ID = 0x68727263
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, value BLOB NOT NULL, size INTEGER NOT NULL, stored REAL NOT NULL, used REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON results (used, size);
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), bytes INTEGER, entries INTEGER);
INSERT OR IGNORE INTO total SELECT 1, COALESCE(SUM(size), 0), COUNT(*) FROM results;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON results
    BEGIN UPDATE total SET bytes = bytes + NEW.size, entries = entries + 1; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON results
    BEGIN UPDATE total SET bytes = bytes - OLD.size, entries = entries - 1; END;
"""
# What a row costs beside its value: key, numbers, index.
_ROW_BYTES = 200
# A hit is noted at most this often (seconds): a note is a write, and a look-up should not be one.
_NOTE_EVERY = 60.0


class DiskCache:
    """A `ResultCache` in a file.

    A damaged file is put aside (`<name>.damaged`) and a new one begun; where that fails, nothing is cached any more.
    Either way there is one warning.

    Args:
        path: The file; its folder is made.
        max_bytes: Bound of all results together. The file itself can be some per cent larger.
        ttl: Seconds that a result is kept; `None`: as long as there is room.

    Raises:
        ValueError: if the file is a database of something else.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 1 << 30, ttl: float | None = None) -> None:
        self.path, self.max_bytes, self.ttl = Path(path), max_bytes, ttl
        self._stats = CacheStats()
        self._warned = False
        self._database: Database | None = None
        self._open()

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = Database(
                self.path, _SCHEMA, synchronous="NORMAL", timeout=2.0, application_id=_APPLICATION_ID
            )
        except ValueError as error:
            raise ValueError(f"{self.path} cannot be a cache: {error}. Give another file.") from error
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def get(self, key: str) -> dict[str, Any] | None:
        value = None
        try:
            value = self._find(key) if self._database else None
        except (sqlite3.Error, OSError, ValueError) as error:
            self._failed(error)
        if value is None:
            self._stats.misses += 1
        else:
            self._stats.hits += 1
        return value

    def _find(self, key: str) -> dict[str, Any] | None:
        assert self._database is not None
        now = time.time()
        rows = self._database.read("SELECT value, stored, used FROM results WHERE key = ?", (key,))
        if not rows:
            return None
        stored, since, used = rows[0]
        if self.ttl is not None and now - since > self.ttl:
            return None
        try:
            value = decode_value(stored)
        except (ValueError, AttributeError):
            with self._database.write() as connection:
                connection.execute("DELETE FROM results WHERE key = ?", (key,))
            raise
        if now - used > _NOTE_EVERY:
            with self._database.write() as connection:
                connection.execute("UPDATE results SET used = ?, hits = hits + 1 WHERE key = ?", (now, key))
        return value

    def set(self, key: str, value: Value) -> None:
        stored = encode_value(value)
        size = len(stored) + _ROW_BYTES
        if self._database is None or size > self.max_bytes:
            return
        now = time.time()
        try:
            with self._database.write() as connection:
                connection.execute("DELETE FROM results WHERE key = ?", (key,))
                # the clock jumped back: what was used "later" would stay, and each new result go first
                jumped = "UPDATE results SET used = ?, stored = MIN(stored, ?) WHERE used > ?"
                connection.execute(jumped, (now - 1, now - 1, now))
                connection.execute(
                    "INSERT INTO results (key, value, size, stored, used) VALUES (?, ?, ?, ?, ?)",
                    (key, stored, size, now, now),
                )
                self._stats.evictions += self._evict(connection, now)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _evict(self, connection: sqlite3.Connection, now: float) -> int:
        """Remove what is too old, and what was used longest ago until the bound holds."""
        removed = 0
        if self.ttl is not None:
            removed += connection.execute("DELETE FROM results WHERE stored < ?", (now - self.ttl,)).rowcount
        (total,) = connection.execute("SELECT bytes FROM total").fetchone()
        over = total - self.max_bytes
        if over <= 0:
            return removed
        # some room more, so that not each store has to evict
        over += self.max_bytes // 20
        keys = []
        for key, size in connection.execute("SELECT key, size FROM results ORDER BY used").fetchall():
            if over <= 0 or total - size <= 0:
                break
            keys.append((key,))
            over, total = over - size, total - size
        connection.executemany("DELETE FROM results WHERE key = ?", keys)
        return removed + len(keys)

    def stats(self) -> CacheStats:
        found = CacheStats(**vars(self._stats))
        try:
            rows = self._database.read("SELECT bytes, entries FROM total") if self._database else [(0, 0)]
            found.bytes, found.entries = rows[0]
        except (sqlite3.Error, OSError, IndexError) as error:
            self._failed(error)
        return found

    def clear(self) -> None:
        if self._database is not None:
            with self._database.write() as connection:
                connection.execute("DELETE FROM results")

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _failed(self, error: Exception) -> None:
        """Warn once; put a damaged file aside and begin a new one."""
        self._stats.errors += 1
        if not self._warned:
            _log.warning("The cache %s cannot be used (%s); its results are computed again.", self.path, error)
            self._warned = True
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
        if not damaged and not (isinstance(error, sqlite3.OperationalError) and "malformed" in str(error)):
            return  # busy, full, or one result that is no JSON: the next may work
        again = self._database is not None
        self.close()
        try:
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
            os.replace(self.path, f"{self.path}.damaged")
        except OSError:
            return
        if again or not self.path.exists():
            self._open()
