"""SQLite for several threads and processes: one connection a thread, WAL, and writes that wait for each other."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal


class Database:
    """A database file.

    Args:
        path: The file; its folder must exist.
        schema: `CREATE ... IF NOT EXISTS` statements.
        synchronous: `FULL`: a commit that returned is on the disk, also after a power cut. `NORMAL`: it survives a
            killed process, but the last ones may be lost by a power cut (https://www.sqlite.org/wal.html).
        timeout: Seconds that a write waits for those of other processes.
        application_id: Marks the file as this application's (https://www.sqlite.org/pragma.html#pragma_application_id).

    Raises:
        sqlite3.Error: if the file is damaged, or no database.
        ValueError: if `application_id` is given and the file is another application's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        schema: str,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
        application_id: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._synchronous, self._timeout = synchronous, timeout
        self._here = threading.local()
        self._all: list[tuple[int, threading.Thread, sqlite3.Connection]] = []
        self._lock = threading.Lock()
        if application_id is not None:
            self._check_application(application_id)
        statements = _statements(schema)
        if statements:
            with self.write() as connection:
                for statement in statements:
                    connection.execute(statement)
                if application_id is not None:
                    connection.execute(f"PRAGMA application_id = {application_id:d}")

    def _check_application(self, application_id: int) -> None:
        # before the journal's mode is set, which writes to the file
        with closing(sqlite3.connect(self.path, timeout=self._timeout)) as connection:
            ((found,),) = connection.execute("PRAGMA application_id").fetchall()
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if tables and found != application_id:
            raise ValueError(f"it is a database of something else, with {', '.join(sorted(tables)[:8])}")

    def connection(self) -> sqlite3.Connection:
        """This thread's connection; after a fork the child opens its own, as SQLite demands."""
        if getattr(self._here, "owner", None) != os.getpid():
            # closed by `close`, which may run in another thread
            connection = sqlite3.connect(
                self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            connection.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            self._here.connection, self._here.owner = connection, os.getpid()
            self._keep(connection)
        return self._here.connection  # type: ignore[no-any-return]

    def _keep(self, connection: sqlite3.Connection) -> None:
        """Remember a connection of this thread for `close`, and close those of threads that have ended."""
        here = os.getpid()
        with self._lock:
            # those that a fork inherited are kept untouched: SQLite forbids even closing them here
            ended = [one for one in self._all if one[0] == here and not one[1].is_alive()]
            self._all = [one for one in self._all if one not in ended]
            self._all.append((here, threading.current_thread(), connection))
        for _, _, other in ended:
            other.close()

    def read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.connection().execute(query, values).fetchall()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it is stored when the block ends, or nothing if it raises."""
        connection = self.connection()
        connection.execute("BEGIN IMMEDIATE")  # waits here, and not half way through
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            connections = [connection for owner, _, connection in self._all if owner == os.getpid()]
            self._all = [one for one in self._all if one[0] != os.getpid()]
        for connection in connections:
            connection.close()
        self._here = threading.local()


def _statements(schema: str) -> list[str]:
    """The statements of a schema; a trigger has semicolons inside."""
    found, begun = [], ""
    for part in schema.split(";"):
        begun += part + ";"
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return [statement for statement in found if statement.strip(" \n;")]
