"""Chunks of a stream: gathered for a while, the first and the last at once, nothing lost or out of order."""

import asyncio
import threading
import time

import pytest
from scripted_engine import ScriptedEngine

from hf_reason.serving.cache import NoCache
from hf_reason.serving.chains import Chain, Chains
from hf_reason.serving.engines.base import Accepted, Budget, End, EngineError, Job, ModelCard, Piece, Prompt, joined
from hf_reason.serving.engines.postbox import Postbox
from hf_reason.serving.errors import ApiError
from hf_reason.serving.settings import ServeSettings

STEPS, ANSWER = ["又买来后有12+25=37个", "卖出后有37-8=29个"], "还剩29个"


def _run(interval, count=1, delay=0.005, engine=None):
    """`(seconds, number, piece)` of each piece."""
    engine = engine or ScriptedEngine({"m": (STEPS, ANSWER)}, delay=delay, size=1)
    job = Job("m", Prompt(({"role": "user", "content": "?"},)), Budget(100, 100))
    accepted = [Accepted(job, ModelCard("m", 1), (1,), {}, False) for _ in range(count)]

    async def collect():
        begun, found = time.monotonic(), []
        async for item in Chains(engine, NoCache(), lambda what: None, interval).run(accepted, None, 30.0):
            found.append((time.monotonic() - begun, *item))
        return found

    return asyncio.run(collect())


def _whole(found, number):
    chain = Chain()
    for _, its, piece in found:
        if its == number:
            chain.add(piece)
    return chain


def test_gathered_chunks_hold_the_same_chain():
    single, gathered = _run(0), _run(0.1, count=2)
    assert len(single) > 30 and len(gathered) < len(single)
    wanted = _whole(single, 0)
    assert wanted.end is not None and wanted.answer == ANSWER and wanted.steps == tuple(STEPS)
    assert [_whole(gathered, number) for number in (0, 1)] == [wanted, wanted]
    assert len(gathered[0][2].thought) == 1  # the first comes at once


def test_the_end_is_not_waited_for():
    found = _run(5.0, delay=0.001)
    assert len(found) == 2 and found[-1][2].end is not None and found[-1][0] < 4.0


def test_what_came_before_a_failure_is_handed_on():
    class Failing(ScriptedEngine):
        async def stream(self, accepted):
            for text in "一二三":
                yield Piece(thought=text)
            raise EngineError("no")

    engine, seen = Failing({"m": (STEPS, ANSWER)}), []

    async def collect():
        job = Job("m", Prompt(({"role": "user", "content": "?"},)), Budget(100, 100))
        accepted = Accepted(job, ModelCard("m", 1), (1,), {}, False)
        async for item in Chains(engine, NoCache(), lambda what: None, 0.2).run([accepted], None, 30.0):
            seen.append(item[1].thought)

    with pytest.raises(ApiError):
        asyncio.run(collect())
    assert "".join(seen) == "一二三"


def test_joined_pieces():
    end = End("stop", "model", 1, 2, 3)
    pieces = [Piece("甲"), Piece("乙", steps=("甲乙",)), Piece(answer="丙"), Piece(answer="丁", end=end)]
    assert joined(pieces) == Piece("甲乙", "丙丁", ("甲乙",), (), end)
    assert joined(pieces[:1]) is pieces[0]


def test_a_postbox_loses_nothing_and_wakes_the_loop_rarely():
    async def collect():
        loop, wakes = asyncio.get_running_loop(), []
        real = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: wakes.append(1) or real(*args)
        box, queues = Postbox(loop), [asyncio.Queue() for _ in range(4)]

        def write(queue):
            for number in range(1000):
                box.post(queue, number)

        found = [[] for _ in queues]
        for _ in range(2):  # the second time to a loop that has gone to sleep again
            threads = [threading.Thread(target=write, args=(queue,)) for queue in queues]
            for thread in threads:
                thread.start()
            for queue, its in zip(queues, found, strict=True):
                its += [await asyncio.wait_for(queue.get(), 20) for _ in range(1000)]
            for thread in threads:
                thread.join()
        return found, len(wakes)

    found, wakes = asyncio.run(collect())
    assert found == [[*range(1000)] * 2] * 4 and wakes < 4000


@pytest.mark.parametrize("interval", [-0.1, 11])
def test_an_interval_that_cannot_be(interval):
    with pytest.raises(ValueError, match="from 0 to 10 seconds"):
        ServeSettings(chunk_interval=interval)
