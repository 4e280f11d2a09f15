"""`hf-reason serve --max_replicas` on Ray Serve: load starts a replica, and quiet takes it away."""

import re
import threading
import time

import pytest
from ray_server import QUESTION, ray_server, replicas_of
from serving_server import ask
from upstream_server import ANSWER

from hf_reason.cli.serve import ServeArguments


def test_impossible_delays():
    with pytest.raises(ValueError, match="upscale_delay is -1"):
        ServeArguments(model_name_or_path=["m"], max_replicas=2, upscale_delay=-1)
    with pytest.raises(ValueError, match="downscale_delay is -1"):
        ServeArguments(model_name_or_path=["m"], max_replicas=2, downscale_delay=-1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_load_starts_a_replica_and_quiet_takes_it_away_and_no_request_fails(tmp_path):
    words = ["--max_replicas", "2", "--max_batch_size", "2", "--upscale_delay", "1", "--downscale_delay", "2"]
    with ray_server(tmp_path, *words) as (server, port, app):
        results, busy, end = [], threading.Event(), threading.Event()
        app.pause = 0.02
        busy.set()

        def client(number):
            while not end.is_set() and (busy.is_set() or number == 0):
                status, done = ask(port, messages=QUESTION, temperature=1)
                results.append((status, done["choices"][0]["message"]["content"] if status == 200 else done))

        def until(what, seconds):
            deadline = time.monotonic() + seconds
            while not what() and time.monotonic() < deadline:
                time.sleep(0.1)
            return what()

        def answering():
            """The replica that answers now."""
            text = ask(port, "/metrics")[1].decode()
            return re.search(r"^hf_reason_batch_size_created (\S+)", text, re.MULTILINE).group(1)

        before = replicas_of(server)
        assert len(before) == 1
        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        try:
            assert until(lambda: len(replicas_of(server)) == 2, 90)
            seen = set()
            assert until(lambda: seen.add(answering()) or len(seen) == 2, 60)  # both take requests
            busy.clear()  # one client goes on: 1 request at a time is less than a replica takes
            assert until(lambda: len(replicas_of(server)) == 1, 90)
            many = len(results)
            assert until(lambda: len(results) > many + 2, 60)
            assert len(replicas_of(server)) == 1
        finally:
            busy.clear()
            end.set()
            for thread in threads:
                thread.join()
        assert set(results) == {(200, ANSWER)}
