"""Chains of one request, together: from the cache or the engine, merged into one stream, with an end in time."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from .cache import ResultCache, cache_key
from .engines.base import Accepted, End, Engine, EngineError, Piece, TokenLogprob, joined
from .errors import ApiError

_log = logging.getLogger(__name__)
# Seconds without a piece after which a stream is told that the server is alive (and learns whether the client is).
HEARTBEAT = 10.0


@dataclass
class Chain:
    """A chain as far as it is known."""

    thought: str = ""
    answer: str = ""
    steps: tuple[str, ...] = ()
    logprobs: list[TokenLogprob] = field(default_factory=list)
    end: End | None = None

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        self.thought += piece.thought
        self.answer += piece.answer
        self.steps = piece.steps if piece.steps is not None else self.steps
        self.logprobs += piece.logprobs
        self.end = piece.end

    def stored(self) -> dict[str, Any]:
        """As the cache has it."""
        return asdict(self)

    def pieces(self) -> list[Piece]:
        """The whole chain again, in the order in which a stream has it."""
        thought = [Piece(thought=self.thought)] if self.thought else []
        steps = self.steps if self.end is not None and self.end.closed_by else None
        return [*thought, Piece(answer=self.answer, steps=steps, logprobs=tuple(self.logprobs), end=self.end)]


def _from_cache(value: dict[str, Any]) -> Chain:
    logprobs = [TokenLogprob(t["text"], t["logprob"], tuple((a, b) for a, b in t["top"])) for t in value["logprobs"]]
    return Chain(value["thought"], value["answer"], tuple(value["steps"]), logprobs, End(**value["end"]))


class Chains:
    """Runs chains.

    Args:
        engine: Generates them.
        cache: Of results that are deterministic.
        looked_up: Called with `hit`, `miss` or `bypass` for each chain.
        interval: Seconds in which the pieces of a request are gathered before the next ones are handed on. The first
            comes at once.
    """

    def __init__(
        self, engine: Engine, cache: ResultCache, looked_up: Callable[[str], None], interval: float = 0.0
    ) -> None:
        self.engine, self.cache, self.looked_up, self.interval = engine, cache, looked_up, interval

    async def _one(self, accepted: Accepted, owner: str | None) -> AsyncGenerator[Piece]:
        key = None
        if accepted.deterministic:
            key = cache_key(
                revision=f"{accepted.card.name} {accepted.card.revision}",
                prompt_ids=accepted.prompt_ids,
                settings=accepted.settings,
                api_key=owner,
            )
            stored = await asyncio.to_thread(self.cache.get, key)
            self.looked_up("miss" if stored is None else "hit")
            if stored is not None:
                for piece in _from_cache(stored).pieces():
                    yield piece
                return
        else:
            self.looked_up("bypass")
        chain = Chain()
        async with aclosing(self.engine.stream(accepted)) as pieces:
            async for piece in pieces:
                chain.add(piece)
                if piece.end is not None and key is not None:
                    await asyncio.to_thread(self.cache.set, key, chain.stored())
                yield piece

    async def run(
        self, jobs: Sequence[Accepted], owner: str | None, timeout: float
    ) -> AsyncGenerator[tuple[int, Piece] | None]:
        """The pieces of all chains as they come, with the number of the chain; `None` is a heartbeat.

        With an interval, pieces of one chain that are there at the same time come as one, since each is a chunk of the
        response. Closing the iterator gives the places of the chains to others.

        Raises:
            ApiError: 504 after `timeout` seconds, 500 if the engine failed.
        """
        queue: asyncio.Queue[tuple[int, Piece | BaseException]] = asyncio.Queue()
        ended = asyncio.Event()  # of a chain: nothing more is gathered then

        async def pump(number: int, job: Accepted) -> None:
            try:
                async with aclosing(self._one(job, owner)) as pieces:
                    async for piece in pieces:
                        queue.put_nowait((number, piece))
                        if piece.end is not None:
                            ended.set()
            except Exception as error:
                queue.put_nowait((number, error))
                ended.set()

        tasks = [asyncio.create_task(pump(number, job)) for number, job in enumerate(jobs)]
        left, deadline, pause = len(tasks), time.monotonic() + timeout, 0.0
        try:
            while left:
                if pause:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause):
                            await ended.wait()
                    ended.clear()
                wait = min(HEARTBEAT, deadline - time.monotonic())
                try:
                    async with asyncio.timeout(max(wait, 0.0)):
                        found = [await queue.get()]
                except TimeoutError:
                    if time.monotonic() < deadline:
                        yield None
                        continue
                    message = f"The answer was not finished within {timeout:g} seconds. Ask for fewer tokens."
                    raise ApiError(504, "timeout", message) from None
                if self.interval:
                    found += [queue.get_nowait() for _ in range(queue.qsize())]
                for number, piece in _joined(found):
                    left -= piece.end is not None
                    yield number, piece
                for _, item in found:
                    if isinstance(item, BaseException):
                        raise _failure(item)
                pause = self.interval
        finally:
            for task in tasks:  # not awaited: this may run while the request is being cancelled
                task.cancel()


def _joined(found: Sequence[tuple[int, Piece | BaseException]]) -> list[tuple[int, Piece]]:
    """The pieces among these items, those of one chain as one."""
    pieces: dict[int, list[Piece]] = {}
    for number, item in found:
        if isinstance(item, Piece):
            pieces.setdefault(number, []).append(item)
    return [(number, joined(its)) for number, its in pieces.items()]


def _failure(error: BaseException) -> ApiError:
    if isinstance(error, EngineError) and error.code != "engine_error":
        return ApiError(error.status, error.code, str(error), retry_after=error.retry_after)
    if not isinstance(error, EngineError):
        _log.error("a chain failed", exc_info=error)
    return ApiError(500, "engine_error", "The engine failed on this request. Its log says why.")
