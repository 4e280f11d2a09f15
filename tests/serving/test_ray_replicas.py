"""`hf-reason serve --replicas` on Ray Serve: the load is shared, and a killed replica comes back."""

import http.client
import json
import os
import re
import signal
import sys
import threading
import time

import pytest
from ray_server import QUESTION, ray_server, replicas_of
from serving_server import ask
from upstream_server import ANSWER

from hf_reason.cli.serve import ServeArguments


def test_impossible_numbers_of_replicas():
    with pytest.raises(ValueError, match="replicas is 0"):
        ServeArguments(model_name_or_path=["m"], replicas=0)
    with pytest.raises(ValueError, match="max_replicas at least that"):
        ServeArguments(model_name_or_path=["m"], replicas=3, max_replicas=2)


def test_without_ray_one_line_says_what_to_install(monkeypatch, tmp_path):
    from hf_reason.cli.serve import main

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'hf_reason\[ray\]'"):
        main(["--model_name_or_path", "m", "--port", "0", "--replicas", "2", "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    with ray_server(folder, "--replicas", "2") as (server, port, app):
        yield server, port, app, folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_replicas_share_feedback_experiments_and_results(running):
    from hf_reason.serving.experiments import Experiments

    _, port, app, folder = running
    experiments, seen = Experiments(folder / "out" / "experiments.db"), {}
    experiments.start("test", model="r1", version_a="r1", version_b="r2", fraction=0.5)
    try:
        for user in [*map(str, range(20))] * 2:
            status, done = ask(port, messages=QUESTION, user=user)
            assert status == 200 and done["choices"][0]["message"]["content"] == ANSWER
            seen.setdefault(user, set()).add(done["model"])
        for _ in range(8):  # whichever replica stores it knows the answer
            assert ask(port, "/v1/feedback", id=done["id"], thumbs="up")[0] == 201
    finally:
        experiments.roll_back("test")
        experiments.close()
    assert all(len(models) == 1 for models in seen.values()) and set.union(*seen.values()) == {"r1", "r2"}
    asked = len(app.requests)
    found = [ask(port, messages=QUESTION, temperature=0, seed=7)[1]["choices"] for _ in range(12)]
    assert found.count(found[0]) == 12 and len(app.requests) == asked + 2  # a thought and an answer, once
    texts = [ask(port, "/metrics")[1].decode() for _ in range(20)]
    counts = {re.search(r"^hf_reason_batch_size_created (\S+)", text, re.MULTILINE).group(1) for text in texts}
    assert len(counts) == 2  # both have answered, each with counts of its own


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stream_comes_event_by_event_through_ray(running):
    _, port, app, _ = running
    app.pause = 0.02
    try:
        host = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"messages": QUESTION, "stream": True, "thinking_budget": 100})
        begun, times = time.monotonic(), []
        host.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = host.getresponse()
        while line := answer.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - begun)
        assert len(times) > 8 and times[3] < times[-1] / 2
    finally:
        app.pause = 0.0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_replica_comes_back_and_only_its_own_requests_fail(running):
    server, port, app, _ = running
    app.pause, results, end = 0.005, [], threading.Event()

    def client():
        while not end.is_set():
            status, done = ask(port, messages=QUESTION, temperature=1)
            results.append((status, done["choices"][0]["message"]["content"] if status == 200 else ""))

    threads = [threading.Thread(target=client) for _ in range(4)]
    try:
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 120
        while len(results) < 8 and time.monotonic() < deadline:
            time.sleep(0.05)
        before = replicas_of(server)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        many = len(results)
        while time.monotonic() < deadline:
            now = replicas_of(server)
            if len(now) == 2 and before[0] not in now and len(results) > many + 20:
                break
            time.sleep(0.2)
        assert len(now) == 2 and before[0] not in now
    finally:
        app.pause = 0.0
        end.set()
        for thread in threads:
            thread.join()
    failed = [status for status, _ in results if status != 200]
    assert len(failed) <= 4  # those that the replica had
    assert {said for status, said in results if status == 200} == {ANSWER}
    assert {status for status, _ in results[-8:]} == {200}
