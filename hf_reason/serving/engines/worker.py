"""The thread of a model: runs batches, lets waiting chains in at admission points, gives each adapter its turn."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from hf_reason.generation.kept import Kept
from hf_reason.generation.live import LiveChain
from hf_reason.generation.shrinking import LEAST_ROWS, PART

from .served_model import ServedModel

_log = logging.getLogger(__name__)


class Worker:
    """Generates the chains of one model.

    A batch holds chains of one adapter. It pauses at an admission point, which comes after `admission_interval` tokens
    a chain, if by then a chain waits that could join (there is room, or it is another adapter's turn), or if so many
    rows have ended that the rest is faster alone.

    Args:
        served: The model.
        max_batch_size: Chains generated at once.
        admission_interval: Tokens between two admission points, at least 1.
        on_batch: Called with the number of running chains of each batch.
    """

    def __init__(
        self, served: ServedModel, max_batch_size: int, admission_interval: int, on_batch: Callable[[int], None]
    ) -> None:
        self.served, self.max_batch_size, self.interval = served, max_batch_size, admission_interval
        self.on_batch = on_batch
        self._ready = threading.Condition()
        self._waiting: deque[tuple[str | None, LiveChain, Callable[[BaseException], None]]] = deque()
        self._running: list[tuple[str | None, LiveChain, Callable[[BaseException], None]]] = []
        self._kept: dict[str | None, Kept | None] = {}  # of each adapter that has had a turn
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"generate {served.card.name}", daemon=True)
        self._thread.start()

    def submit(self, adapter: str | None, chain: LiveChain, fail: Callable[[BaseException], None]) -> None:
        """Queue a chain; its `on_token` and `fail` are called on the worker's thread.

        Raises:
            RuntimeError: if the worker is closed.
        """
        with self._ready:
            if self._closed:
                raise RuntimeError("The engine is closed.")
            self._waiting.append((adapter, chain, fail))
            self._ready.notify()

    def leave(self, chain: LiveChain) -> None:
        """Forget a chain, whether it is over or not."""
        chain.cancelled = True

    def alive(self) -> bool:
        """Whether chains can be submitted."""
        return self._thread.is_alive() and not self._closed

    def counts(self) -> tuple[int, int]:
        """Chains that are running, and that are waiting."""
        with self._ready:
            running = sum(not chain.over for _, chain, _ in self._running)
            return running, sum(not chain.cancelled for _, chain, _ in self._waiting)

    def close(self, timeout: float = 10.0) -> None:
        """Cancel what runs and waits, and end the thread."""
        with self._ready:
            self._closed = True
            for _, chain, _ in (*self._running, *self._waiting):
                chain.cancelled = True
            self._ready.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        last: str | None = None
        while True:
            with self._ready:
                self._running = [item for item in self._running if not item[1].over]
                self._admit()
                while not self._running and not self._closed:
                    self._ready.wait()
                    self._admit()
                if self._closed:
                    return
                last = self._turn(last)
                batch = [item for item in self._running if item[0] == last]
            self._run(last, batch)

    def _admit(self) -> None:
        """Let waiting chains in, in their order, as far as there is room. Called with the lock."""
        while self._waiting and (len(self._running) < self.max_batch_size or self._waiting[0][1].cancelled):
            item = self._waiting.popleft()
            if not item[1].cancelled:
                self._running.append(item)

    def _turn(self, last: str | None) -> str | None:
        """The adapter whose chains run next: the one after the last, in the order in which the running ones came."""
        adapters = list(dict.fromkeys(adapter for adapter, _, _ in self._running))
        if last not in adapters:
            return adapters[0]
        return adapters[(adapters.index(last) + 1) % len(adapters)]

    def _run(self, adapter: str | None, batch: list[tuple[str | None, LiveChain, Callable]]) -> None:
        others = len(batch) < len(self._running)
        self.on_batch(len(batch))

        def pause(tokens: int) -> bool:
            if self._closed:
                return True
            # the first token comes with the prompts, and what came while they were read need not wait an interval
            if tokens % self.interval and not (tokens == 1 and self.served.keeps):
                return False
            left = sum(not chain.over for _, chain, _ in batch)
            room = len(self._running) - len(batch) + left < self.max_batch_size
            ended = len(batch) - left
            # rows that have ended are carried along; a pause to leave them costs more where the rest is read again
            enough = max(LEAST_ROWS, len(batch) // PART) if self.served.keeps else -(-len(batch) // 2)
            return others or (bool(self._waiting) and room) or ended >= enough

        self._kept = {
            name: kept for name, kept in self._kept.items() if any(item[0] == name for item in self._running)
        }
        try:
            kept = self._kept.pop(adapter, None)
            self._kept[adapter] = self.served.run(adapter, [chain for _, chain, _ in batch], pause, kept)
        except Exception as error:
            _log.exception("a batch of %d chains failed", len(batch))
            for _, chain, fail in batch:
                if not chain.over:
                    chain.cancelled = True
                    fail(error)
