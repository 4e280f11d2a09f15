"""What a model's thread writes, on its way to the event loop."""

import asyncio
from collections import deque
from typing import Any


class Postbox:
    """Puts items from other threads into queues of an event loop.

    The loop is woken once for all that is posted until it comes: a wake-up is a system call, and each step of a batch
    posts a piece for each of its rows.

    Args:
        loop: Whose queues they are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._posted: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._woken = False

    def post(self, queue: "asyncio.Queue[Any]", item: Any) -> None:
        """Put `item` into `queue` soon; the order of one thread's items is kept.

        Raises:
            RuntimeError: if the loop is closed.
        """
        self._posted.append((queue, item))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False  # first: what is posted from now on wakes the loop again
        while self._posted:
            queue, item = self._posted.popleft()
            queue.put_nowait(item)
