"""When a running batch lets waiting chains in."""

import threading
from types import SimpleNamespace

import pytest

from hf_reason.serving.engines.worker import Worker


def chain():
    return SimpleNamespace(over=False, cancelled=False)


@pytest.mark.parametrize("keeps", [True, False])
def test_what_came_while_prompts_were_read_joins_at_the_first_token(keeps):
    """Where rows are not read again; a model that reads them again waits for the end of the interval."""
    started, joined, paused, batches = threading.Event(), threading.Event(), [], []

    def run(adapter, chains, pause, kept):
        batches.append(len(chains))
        started.set()
        assert joined.wait(30)
        paused.extend(pause(tokens) for tokens in (1, 2, 3, 4) if len(batches) == 1)
        for one in chains:
            one.over = len(batches) == 2

    served = SimpleNamespace(keeps=keeps, run=run, card=SimpleNamespace(name="m"))
    worker = Worker(served, max_batch_size=4, admission_interval=4, on_batch=lambda count: None)
    worker.submit(None, chain(), print)
    assert started.wait(30)
    worker.submit(None, chain(), print)
    joined.set()
    while len(batches) < 2:
        threading.Event().wait(0.01)
    worker.close()
    assert paused == [keeps, False, False, True] and batches == [1, 2]
