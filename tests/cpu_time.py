"""Whether work on long text is linear: CPU seconds, the best of several tries, so a busy machine decides nothing."""

import time
from collections.abc import Callable

TRIES = 5


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def ends_within(seconds: float, work: Callable[[], object]) -> bool:
    """Whether one of five tries of `work` took less CPU time than `seconds`."""
    return any(_seconds(work) < seconds for _ in range(TRIES))


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Whether ten times `size` costs about ten times as much in one of five tries; quadratic work: a hundred times."""
    small, large = float("inf"), float("inf")
    for _ in range(TRIES):
        small = min(small, _seconds(lambda: work(size)))
        large = min(large, _seconds(lambda: work(10 * size)))
        if large < 35 * max(small, 0.02):
            return True
    return False
