"""Not more requests and tokens a minute than a server allows."""

import threading
import time
from collections.abc import Callable


class RateLimit:
    """Lets requests begin at equal distances, so that no minute has more than the limit.

    What a request costs in tokens is estimated when it begins, and corrected when it has ended.

    Args:
        requests_per_minute: `None`: no limit.
        tokens_per_minute: Of prompts and completions; `None`: no limit.
        clock: Gives seconds.
        sleep: Waits for seconds.

    Raises:
        ValueError: for a limit that is not above 0.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for name, value in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}_per_minute must be above 0, got {value}.")
        self._request = 60 / requests_per_minute if requests_per_minute else 0.0
        self._token = 60 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock, self._sleep, self._lock = clock, sleep, threading.Lock()
        self._next_request = self._next_token = self._paused = float("-inf")

    def acquire(self, tokens: float = 0.0) -> None:
        """Wait until a request of about so many tokens may begin."""
        with self._lock:
            now = self._clock()
            start = max(now, self._next_request, self._next_token)
            self._next_request = start + self._request
            self._next_token = start + tokens * self._token
        while (wait := max(start, self._paused) - self._clock()) > 0:
            self._sleep(wait)

    def settle(self, difference: float) -> None:
        """A request has had so many tokens more (or fewer) than was estimated."""
        with self._lock:
            self._next_token += difference * self._token

    def pause(self, seconds: float) -> None:
        """Let no request begin for so long: the server has asked for it."""
        with self._lock:
            self._paused = max(self._paused, self._clock() + seconds)
