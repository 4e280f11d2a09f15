"""Answers are checked under a clock, in the main thread and in any other."""

import threading
import time

import pytest

from hf_reason.rewards import answer_reward, bounded


@pytest.fixture(autouse=True)
def fresh():
    bounded.answers_match_in_time.cache_clear()
    yield
    bounded.answers_match_in_time.cache_clear()
    bounded._CHILD.stop()


def in_thread(function, *args):
    found = []
    worker = threading.Thread(target=lambda: found.append(function(*args)))
    worker.start()
    worker.join(60)
    assert not worker.is_alive()
    return found[0]


def test_numbers_need_no_second_process():
    assert in_thread(bounded.answers_match_in_time, "24个", "24") is True
    assert bounded._CHILD.process is None


def test_a_child_that_takes_too_long_is_replaced(monkeypatch):
    """A stand-in for the checker that hangs on one pair."""
    script = (
        "import json, sys, time\n"
        "for line in sys.stdin:\n"
        "    answer, reference = json.loads(line)\n"
        "    if answer == 'hang': time.sleep(60)\n"
        "    print(int(answer == reference), flush=True)\n"
    )
    monkeypatch.setattr(bounded, "_COMMAND", ("-c", script))
    monkeypatch.setattr(bounded, "TIMEOUT_SECONDS", 0.3)
    start = time.monotonic()
    assert in_thread(bounded.answers_match_in_time, "hang", "$x^2$") is None
    assert in_thread(bounded.answers_match_in_time, "$x^2$", "$x^2$") is True
    assert in_thread(bounded.answers_match_in_time, "y", "$x^2$") is False
    assert time.monotonic() - start < 20


def test_a_child_that_does_not_start_says_so(monkeypatch):
    monkeypatch.setattr(bounded, "_COMMAND", ("-c", "raise SystemExit(1)"))
    with pytest.raises(RuntimeError, match="did not start"):
        bounded._CHILD.check("y", "$x^2$")


@pytest.mark.slow  # the checker's own imports
def test_formulas_get_the_same_verdict_in_a_thread():
    answers = ["$(x+1)^2$", "$x^2+2x+1$", "$x^2$"]
    completions = [f"<think>\n步骤1:a\n</think>\n\n{answer}" for answer in answers]
    here = answer_reward(completions, answer=["$x^2+2x+1$"] * 3)
    bounded.answers_match_in_time.cache_clear()
    there = in_thread(lambda: answer_reward(completions, answer=["$x^2+2x+1$"] * 3))
    assert here == there == [1.0, 1.0, 0.0]
    assert bounded._CHILD.process is not None
