"""A clock that jumps back an hour while a server runs: nothing is lost, and what is newest stays the newest."""

import time

import pytest

from hf_reason.serving.cache_disk import DiskCache
from hf_reason.serving.feedback import FeedbackStore, Served
from hf_reason.serving.preferences import Preferences


@pytest.fixture
def clock(monkeypatch):
    """Sets `time.time`."""

    def set_to(seconds):
        monkeypatch.setattr(time, "time", lambda: float(seconds))

    set_to(10_000)
    return set_to


def _served(name):
    return Served(request_id=name, context="1+1=?", steps=("1+1=2",), answer="2", domain="math")


def test_feedback_and_votes_keep_their_order(tmp_path, clock):
    store, votes = FeedbackStore(tmp_path / "feedback.db", max_served=2), Preferences(tmp_path / "feedback.db")
    for number, now in enumerate((10_000, 6_400, 6_401)):
        clock(now)
        store.remember(_served(f"r{number}"))
        store.add(f"r{number}", comment=f"c{number}")
        votes.add(_served(f"r{number}"), _served("other"))
    assert [each.comment for each in store] == ["c0", "c1", "c2"]
    assert [vote.chosen.request_id for vote in votes] == ["r0", "r1", "r2"]
    assert store.served("r0") is None and store.served("r2") is not None, "the oldest is forgotten"
    store.close()
    votes.close()


def test_a_full_cache_keeps_the_new_results(tmp_path, clock):
    cache = DiskCache(tmp_path / "results.db", max_bytes=20_000, ttl=100)
    for number in range(30):
        cache.set(f"before-{number}", {"text": "x" * 1000 + str(number)})
        clock(10_000 + number)
    assert cache.get("before-29")
    clock(6_400)
    assert cache.get("before-29"), "nothing is too old"
    for number in range(30):
        clock(6_400 + number)
        cache.set(f"after-{number}", {"text": "y" * 1000 + str(number)})
        assert cache.get(f"after-{number}"), number
    assert cache.get("after-20") and cache.get("before-0") is None
    clock(6_400 + 200)
    assert cache.get("after-29") is None and cache.get("before-29") is None, "they are too old now"
    cache.close()
