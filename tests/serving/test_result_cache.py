"""The cache of results: equal requests only, bounded, shared by processes, and never the reason of a failure."""

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hf_reason.serving.cache import cache_key, is_deterministic, open_cache
from hf_reason.serving.cache_disk import DiskCache

BASE = {"revision": "abc", "prompt_ids": [1, 2, 3], "settings": {"temperature": 0, "stop": ["x"]}}


def test_a_key_is_of_everything_that_changes_the_output():
    keys = [
        cache_key(**BASE),
        cache_key(**BASE | {"revision": "abd"}),
        cache_key(**BASE | {"prompt_ids": [1, 23]}),
        cache_key(**BASE | {"prompt_ids": [12, 3]}),
        cache_key(**BASE | {"settings": {"temperature": 0, "stop": ["y"]}}),
        cache_key(**BASE | {"settings": {"temperature": 0, "stop": "x"}}),
        cache_key(**BASE, adapter="finance"),
        cache_key(**BASE, api_key="finance"),
        cache_key(**BASE, adapter="finance", api_key="k"),
    ]
    assert len(set(keys)) == len(keys) and all(len(key) == 64 for key in keys)
    swapped = {"stop": ["x"], "temperature": 0}
    assert cache_key(**BASE | {"settings": swapped}) == keys[0]
    import numpy as np

    assert cache_key(**BASE | {"prompt_ids": np.array([1, 2, 3])}) == keys[0]
    with pytest.raises(TypeError):
        cache_key(**BASE | {"settings": {"stop": {1, 2}}})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"temperature": 0.0}, True),
        ({"temperature": 0.7}, False),
        ({"temperature": 0.7, "seed": 0}, True),
        ({"do_sample": True}, False),
        ({"do_sample": True, "seed": 3}, True),
    ],
)
def test_what_may_be_cached(settings, expected):
    assert is_deterministic(settings) is expected


def test_hits_survive_a_restart_and_are_counted(tmp_path):
    cache = open_cache(str(tmp_path / "deep" / "results.db"))
    value = {"answer": "12\n\ud800", "steps": ["a"], "n": 1.5}
    assert cache.get("k") is None
    cache.set("k", value)
    assert cache.get("k") == value
    found = cache.stats()
    assert (found.hits, found.misses, found.entries, found.errors) == (1, 1, 1, 0) and found.bytes > 200
    cache.close()
    again = open_cache(str(tmp_path / "deep" / "results.db"))
    assert again.get("k") == value
    again.set("k", {"answer": "13"})
    assert again.get("k") == {"answer": "13"} and again.stats().entries == 1
    again.clear()
    assert again.get("k") is None and again.stats().bytes == 0
    with pytest.raises(TypeError):
        again.set("k", {"answer": object()})
    with pytest.raises(TypeError, match="mapping, not list"):
        again.set("k", [1])


def test_the_bound_holds_and_what_is_used_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_reason.serving.cache_disk._NOTE_EVERY", 0.0)
    cache = DiskCache(tmp_path / "results.db", max_bytes=20_000)
    for number in range(200):
        cache.set(f"k{number}", {"text": "x" * 500})
        assert cache.stats().bytes <= 20_000
        assert cache.get("k0") is not None  # used all the time
    stats = cache.stats()
    assert stats.evictions == 200 - stats.entries and 20 <= stats.entries <= 28
    assert cache.get("k199") is not None and cache.get("k1") is None
    cache.set("huge", {"text": "x" * 30_000})  # larger than all of it: not stored, and nothing goes for it
    assert cache.get("huge") is None and cache.stats().entries == stats.entries


def test_a_result_that_is_too_old(tmp_path):
    cache = DiskCache(tmp_path / "results.db", ttl=0.05)
    cache.set("k", {"a": 1})
    assert cache.get("k") == {"a": 1}
    time.sleep(0.06)
    assert cache.get("k") is None
    cache.set("other", {})
    assert cache.stats().entries == 1


@pytest.mark.parametrize("damage", ["text", "empty", "middle"])
def test_a_damaged_file_is_a_miss_with_one_warning(tmp_path, damage, caplog):
    path = tmp_path / "results.db"
    cache = DiskCache(path)
    for number in range(300):
        cache.set(f"k{number}", {"text": "x" * 300})
    cache.close()
    if damage == "text":
        path.write_text("not a database " * 100)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
    with caplog.at_level(logging.WARNING):
        cache = DiskCache(path)
        for number in range(300):
            assert cache.get(f"k{number}") in (None, {"text": "x" * 300})
            cache.set(f"n{number}", {"a": number})
        hits = [cache.get(f"n{number}") for number in range(300)]
    assert len(caplog.records) == (damage != "empty"), caplog.text
    assert hits[-1] == {"a": 299}  # a fresh file took its place


def test_the_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (name)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"other.db cannot be a cache: it is a database of .* with customers"):
        DiskCache(path)
    assert path.read_bytes() == before


def test_damage_while_it_is_open(tmp_path, caplog):
    path = tmp_path / "results.db"
    cache = DiskCache(path)
    for number in range(300):
        cache.set(f"k{number}", {"text": "x" * 300})
    cache._database.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    cache._database.connection().execute("PRAGMA cache_size = 0")
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    with caplog.at_level(logging.WARNING):
        for number in range(300):
            assert cache.get(f"k{number}") in (None, {"text": "x" * 300})
        cache.set("new", {"a": 1})
    assert cache.get("new") == {"a": 1} and len(caplog.records) == 1
    assert Path(f"{path}.damaged").exists()


def test_one_result_that_is_no_json_goes_alone(tmp_path, caplog):
    cache = DiskCache(tmp_path / "results.db")
    cache.set("good", {"a": 1})
    cache.set("bad", {"a": 2})
    with cache._database.write() as connection:
        connection.execute("UPDATE results SET value = x'ff00' WHERE key = 'bad'")
    assert cache.get("bad") is None and cache.get("bad") is None and cache.get("good") == {"a": 1}
    assert len(caplog.records) == 1 and cache.stats().entries == 1


def test_a_place_that_cannot_be_written(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "results.db")
    cache.set("k", {"a": 1})
    assert cache.get("k") is None and cache.stats().entries == 0 and len(caplog.records) == 1


def test_a_full_disk_stores_nothing_and_fails_nothing(tmp_path, caplog):
    cache = DiskCache(tmp_path / "results.db")
    cache.set("k", {"a": 1})
    pages = cache._database.read("PRAGMA page_count")[0][0]
    cache._database.connection().execute(f"PRAGMA max_page_count = {pages}")  # what a full disk says, SQLITE_FULL
    for number in range(20):
        cache.set(f"n{number}", {"text": "x" * 5000})
    assert cache.get("k") == {"a": 1} and len(caplog.records) == 1 and cache.stats().errors > 0


def test_places():
    assert open_cache(None).get("k") is None
    with pytest.raises(ValueError, match="http://x: not a cache. Give a file, or a URL that begins with redis://"):
        open_cache("http://x")
    with pytest.raises(ValueError, match="max_bytes and ttl must be positive"):
        open_cache("x.db", max_bytes=0)


WRITER = """
import sys
from hf_reason.serving.cache_disk import DiskCache
cache = DiskCache(sys.argv[1], max_bytes=200_000)
for number in range(150):
    cache.set(f"{sys.argv[2]}-{number}", {"who": sys.argv[2], "n": number, "text": "x" * 300})
    found = cache.get(f"{sys.argv[2]}-{number}")
    assert found is None or found["n"] == number
assert cache.stats().errors == 0, cache.stats()
"""


@pytest.mark.slow
def test_several_processes_at_once(tmp_path):
    path = tmp_path / "results.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    cache = DiskCache(path)
    stats = cache.stats()
    (size, entries) = cache._database.read("SELECT SUM(size), COUNT(*) FROM results")[0]
    assert (stats.bytes, stats.entries) == (size, entries) and size <= 200_000  # the kept totals are the real ones


def test_several_threads_at_once(tmp_path):
    cache = DiskCache(tmp_path / "results.db")
    wrong = []

    def work(name: str) -> None:
        for number in range(30):
            cache.set(f"{name}{number}", {"n": number})
            if cache.get(f"{name}{number}") != {"n": number}:
                wrong.append((name, number))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and cache.stats().entries == 120


class TestRedis:
    """Against a real server, where `redis-server` is on the PATH."""

    @pytest.fixture
    def server(self, tmp_path):
        pytest.importorskip("redis")
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0", process
        process.kill()
        process.wait()

    def test_results_are_shared_and_expire(self, server):
        url, _ = server
        cache, other = open_cache(url, ttl=0.2), open_cache(url)
        assert cache.get("k") is None
        cache.set("k", {"answer": "步骤", "n": 1})
        assert other.get("k") == {"answer": "步骤", "n": 1}  # and with that it is kept for 7 days
        cache.set("short", {"n": 2})
        time.sleep(0.25)
        assert cache.get("short") is None and other.get("k") is not None
        assert (cache.stats().hits, cache.stats().misses, cache.stats().errors) == (0, 2, 0)
        other.clear()
        assert other.get("k") is None

    def test_its_own_bound(self, server):
        import redis

        url, _ = server
        client = redis.Redis.from_url(url)
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 400_000)
        client.config_set("maxmemory-policy", "allkeys-lru")
        cache = open_cache(url)
        for number in range(500):
            cache.set(f"k{number}", {"text": "x" * 5000})
        assert cache.stats().errors == 0 and cache.get("k499") is not None and cache.get("k0") is None

    def test_a_value_of_something_else(self, server, caplog):
        import redis

        url, _ = server
        cache = open_cache(url)
        client = redis.Redis.from_url(url)
        client.set("hf_reason:result:k", b"\xff\xfe")
        client.lpush("hf_reason:result:list", 1)
        assert cache.get("k") is None and cache.get("list") is None
        assert len(caplog.records) == 1 and cache.stats().errors == 2

    def test_a_killed_server_costs_one_warning_and_no_time(self, server, caplog):
        url, process = server
        cache = open_cache(url)
        cache.set("k", {"n": 1})
        process.kill()
        process.wait()
        for _ in range(100):
            assert cache.get("k") is None
            cache.set("k", {"n": 1})
        # each try of a dead server would be counted
        assert cache.stats().errors < 5 and len(caplog.records) == 1


def test_no_server_at_all(caplog):
    pytest.importorskip("redis")
    cache = open_cache("redis://user:secret@127.0.0.1:1/0")
    assert cache.get("k") is None
    cache.set("k", {"n": 1})
    assert len(caplog.records) == 1 and "secret" not in caplog.text
    with pytest.raises(ValueError):
        open_cache("redis://127.0.0.1:port/0")
