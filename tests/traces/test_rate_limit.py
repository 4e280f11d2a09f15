"""No minute has more requests or tokens than the limit."""

import pytest

from hf_reason.traces import RateLimit


class _Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def _starts(limit, clock, count, tokens=0.0):
    found = []
    for _ in range(count):
        limit.acquire(tokens)
        found.append(clock.now - 100)
    return found


def _most_in_a_minute(starts):
    return max(sum(start <= other < start + 59.999 for other in starts) for start in starts)


def test_without_a_limit_nothing_waits():
    clock = _Clock()
    assert _starts(RateLimit(clock=clock, sleep=clock.sleep), clock, 5, 1e6) == [0.0] * 5


def test_requests():
    clock = _Clock()
    starts = _starts(RateLimit(30, clock=clock, sleep=clock.sleep), clock, 100)
    assert _most_in_a_minute(starts) == 30 and starts[-1] == pytest.approx(99 * 2)


def test_tokens_are_estimated_and_corrected():
    clock = _Clock()
    limit = RateLimit(tokens_per_minute=600, clock=clock, sleep=clock.sleep)
    assert _starts(limit, clock, 3, tokens=100) == pytest.approx([0, 10, 20])
    limit.settle(200)  # it had three times as many
    assert _starts(limit, clock, 1) == pytest.approx([50])
    limit.settle(-1000)
    assert _starts(limit, clock, 1) == pytest.approx([50]), "what was not used is not saved up"


def test_a_pause_holds_everyone_back():
    clock = _Clock()
    limit = RateLimit(6000, clock=clock, sleep=clock.sleep)
    limit.acquire()
    limit.pause(30)
    limit.pause(5)
    assert _starts(limit, clock, 1) == pytest.approx([30])


@pytest.mark.parametrize("values", [{"requests_per_minute": 0}, {"tokens_per_minute": -1}])
def test_impossible_limits(values):
    with pytest.raises(ValueError, match="per_minute must be above 0"):
        RateLimit(**values)
