"""nginx in front of several servers: streams, an experiment's users, feedback, and a server that is killed."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from serving_server import ask, serving
from upstream_server import ANSWER, FakeUpstream

RECIPES = Path(__file__).parents[2] / "recipes" / "serve"
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
QUESTION = [{"role": "user", "content": "小明有12个苹果,又买来25个,卖出8个。现在有多少个?"}]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="there is no nginx")]


def _free(count):
    """The first of so many ports in a row that are free."""
    for first in range(20_000, 60_000, 7):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no ports")


def _until(what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := what():
                return found
        time.sleep(0.05)
    raise AssertionError("it took too long")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Port of nginx, ports of two servers behind it, the server behind these, and their output_dir."""
    folder = tmp_path_factory.mktemp("nginx")
    first = _free(3)
    front, ports = first + 2, [first, first + 1]
    text = (RECIPES / "nginx.conf").read_text(encoding="utf-8")
    for name, port in (("8001", ports[0]), ("8002", ports[1]), ("8000", front)):
        text = re.sub(rf"127\.0\.0\.1:{name}\b", f"127.0.0.1:{port}", text)
    text = text.replace("fail_timeout=5s", "fail_timeout=1s")
    (folder / "nginx.conf").write_text(("user root;\n" if os.getuid() == 0 else "") + text, encoding="utf-8")
    (folder / "nginx_temp").mkdir()
    command = folder / "hf-reason"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hf_reason.cli "$@"\n')
    command.chmod(0o755)
    app = FakeUpstream("sglang", field="reasoning_content", opens=False)
    app.names = ["r1", "r2"]
    with serving(app) as url, open(folder / "log", "w") as log:
        servers = subprocess.Popen(
            [str(RECIPES / "replicas.sh"), "2", str(ports[0]), "--engine", "openai", "--engine_url", f"{url}/v1"]
            + ["--engine_revision", "1", "--output_dir", str(folder / "out")],
            env={**os.environ, "HF_REASON": str(command)},
            stdout=log,
            stderr=log,
        )
        nginx = subprocess.Popen(
            [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"], stderr=log
        )
        try:
            for port in ports:
                _until(lambda port=port: ask(port, "/health")[0] == 200)
            _until(lambda: ask(front, "/health")[0] == 200)
            yield front, ports, app, folder
        finally:
            nginx.terminate()
            servers.terminate()
            assert (nginx.wait(20), servers.wait(40)) == (0, 0), (folder / "log").read_text()


def _both(ports):
    """Requests that each server has answered."""
    found = []
    for port in ports:
        text = ask(port, "/metrics")[1].decode()
        found.append(
            sum(float(line.split()[-1]) for line in text.splitlines() if re.match(r"hf_reason_requests_total", line))
        )
    return found


def test_a_stream_comes_event_by_event(running):
    front, _, app, _ = running
    app.pause = 0.02
    try:
        host = http.client.HTTPConnection("127.0.0.1", front, timeout=30)
        body = json.dumps({"messages": QUESTION, "stream": True, "thinking_budget": 100})
        begun = time.monotonic()
        host.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer, times = host.getresponse(), []
        while line := answer.readline():
            if line.startswith(b"data: {"):
                times.append(time.monotonic() - begun)
        assert line == b"" and len(times) > 8 and times[3] < times[-1] / 2
    finally:
        app.pause = 0.0


def test_both_servers_answer_and_a_user_keeps_the_version(running):
    from hf_reason.serving.experiments import Experiments

    front, ports, _, folder = running
    experiments = Experiments(folder / "out" / "experiments.db")
    experiments.start("test", model="r1", version_a="r1", version_b="r2", fraction=0.5)
    before, seen = _both(ports), {}
    try:
        for _ in range(3):
            # so many that both versions are drawn, but once in 500,000 runs
            for user in map(str, range(20)):
                status, done = ask(front, messages=QUESTION, user=user)
                assert status == 200
                seen.setdefault(user, set()).add(done["model"])
        status, done = ask(front, messages=QUESTION, user="0")
        for _ in range(4):  # whichever server stores it knows the answer
            assert ask(front, "/v1/feedback", id=done["id"], thumbs="up")[0] == 201
    finally:
        experiments.roll_back("test")
        experiments.close()
    assert all(len(models) == 1 for models in seen.values()) and set.union(*seen.values()) == {"r1", "r2"}
    assert all(after > then for after, then in zip(_both(ports), before, strict=True))


def test_what_one_server_has_cached_the_other_knows(running):
    front, ports, app, _ = running
    before, asked = _both(ports), len(app.requests)
    found = [ask(front, messages=QUESTION, temperature=0, seed=7)[1]["choices"] for _ in range(8)]
    assert found.count(found[0]) == 8 and len(app.requests) == asked + 2  # a thought and an answer, once
    assert all(after > then for after, then in zip(_both(ports), before, strict=True))


def test_what_nginx_says_itself_has_the_shape_of_the_api(running):
    front, _, _, _ = running
    assert ask(front, "/metrics")[0] == 404
    status, body = ask(front, messages=[{"role": "user", "content": "x" * 1_100_000}])
    assert status == 413 and body["error"]["code"] == "request_too_large"


def _listener(port):
    """The process that listens on a port."""
    wanted = f"{0x0100007F:08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inode = next(row[9] for row in rows if row[1] == wanted and row[3] == "0A")
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                return int(link.parts[2])
    raise AssertionError(f"nobody listens on {port}")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="finds a process by its port in /proc")
def test_a_killed_server_loses_no_request_that_has_no_answer_yet_and_comes_back(running):
    front, ports, app, _ = running
    app.pause, results, end = 0.005, [], threading.Event()

    def client():
        while not end.is_set():
            status, done = ask(front, messages=QUESTION, temperature=1)
            results.append((status, done["choices"][0]["message"]["content"] if status == 200 else done))

    threads = [threading.Thread(target=client) for _ in range(6)]
    try:
        for thread in threads:
            thread.start()
        _until(lambda: len(results) > 10)
        os.kill(_listener(ports[0]), signal.SIGKILL)
        many = len(results)
        _until(lambda: len(results) > many + 20)
        _until(lambda: ask(ports[0], "/health")[0] == 200)
    finally:
        app.pause = 0.0
        end.set()
        for thread in threads:
            thread.join()
    assert set(results) == {(200, ANSWER)}
