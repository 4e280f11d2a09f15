"""Threads and forks share a database, and threads that end leave no open file."""

import multiprocessing
import os
import threading

import pytest

from hf_reason.serving.sqlite import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY)"


def add(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def test_threads_that_end_leave_no_open_file(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA)
    for number in range(40):
        thread = threading.Thread(target=add, args=(database, number))
        thread.start()
        thread.join()
    assert len(database._all) <= 2
    assert database.read("SELECT COUNT(*) FROM numbers") == [(40,)]


def test_a_block_that_raises_stores_nothing(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA)
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
        raise RuntimeError
    add(database, 2)
    assert database.read("SELECT n FROM numbers") == [(2,)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_opens_its_own_connection(tmp_path):
    database = Database(tmp_path / "x.db", SCHEMA)
    add(database, 1)
    child = multiprocessing.get_context("fork").Process(target=_in_child, args=(database,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    add(database, 3)  # the parent's connection is as it was
    assert database.read("SELECT n FROM numbers") == [(1,), (2,), (3,)]


def _in_child(database: Database) -> None:
    add(database, 2)
    assert len(database._all) == 2  # the parent's is kept, untouched
    database.close()
    assert len(database._all) == 1
