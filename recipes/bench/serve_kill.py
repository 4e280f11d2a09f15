"""A replica is killed under load, for `bench_serve.py`: one server, two behind nginx, or two on Ray Serve."""

import contextlib
import http.client
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serve_load import Load, Running, environment, ours, run_load, stop

REPLICAS = 2
_RECIPES = Path(__file__).parents[1] / "serve"
_POLL, _PATIENCE = 0.1, 600.0


@dataclass(frozen=True)
class Arrangement:
    """Servers that answer at one address.

    Attributes:
        front: Where clients ask.
        replicas: Gives the processes that answer now.
        metrics: Addresses at which the replicas tell their metrics, each its own or all at one.
    """

    front: Running
    replicas: Callable[[], Sequence[int]]
    metrics: Sequence[str]

    def started(self) -> set[str]:
        """Replicas that tell their metrics now, named by when these began."""
        return {found for url in self.metrics if (found := _started(url)) is not None}

    def wait(self, done: Callable[[], bool]) -> float:
        """Look again until something is so; seconds that took.

        Raises:
            SystemExit: if it is not after ten minutes.
        """
        begun = time.perf_counter()
        while not done():
            if time.perf_counter() - begun > _PATIENCE:
                raise SystemExit(f"{self.front.url}: not all replicas answer after {_PATIENCE:.0f} s.")
            time.sleep(_POLL)
        return time.perf_counter() - begun


def _started(url: str) -> str | None:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    # not the start of the process: two that start together have the same hundredth of a second
    found = re.search(r"^hf_reason_batch_size_created (\S+)", text, re.MULTILINE)
    return None if found is None else found[1]


@contextmanager
def embedded(model: str, folder: Path, threads: int, **options: Any) -> Iterator[Arrangement]:
    """One server that is started again."""
    with ours(model, folder, threads, **options) as server:
        yield Arrangement(server, lambda: [number for number in (server.pid(),) if number], [server.url])


@contextmanager
def nginx(model: str, folder: Path, threads: int, **options: Any) -> Iterator[Arrangement]:
    """`replicas.sh` and nginx, with the files of `recipes/serve` on free ports."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        raise SystemExit("--arrangements nginx needs nginx on the PATH.")
    (folder / "nginx_temp").mkdir(parents=True)
    first = _free_ports(REPLICAS + 1)
    ports, front = list(range(first, first + REPLICAS)), first + REPLICAS
    text = (_RECIPES / "nginx.conf").read_text(encoding="utf-8")
    for name, port in (("8001", ports[0]), ("8002", ports[1]), ("8000", front)):
        text = re.sub(rf"127\.0\.0\.1:{name}\b", f"127.0.0.1:{port}", text)
    user = "user root;\n" if os.getuid() == 0 else ""  # else its workers may not write into the folder
    (folder / "nginx.conf").write_text(user + text, encoding="utf-8")
    command = folder / "hf-reason"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hf_reason.cli "$@"\n')
    command.chmod(0o755)
    words = [str(_RECIPES / "replicas.sh"), str(REPLICAS), str(first), *_words(model, folder, options)]
    with environment(threads), open(folder / "serve.log", "a", encoding="utf-8") as log:
        servers = subprocess.Popen(words, env={**os.environ, "HF_REASON": str(command)}, stdout=log, stderr=log)
        proxy = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"], stderr=log
        )
    url = f"http://127.0.0.1:{front}"
    name = Path(model.rstrip("/")).name
    try:
        yield Arrangement(
            Running(url, name, lambda: servers.pid),
            lambda: [number for port in ports for number in _children(servers.pid, "--port", str(port))],
            [f"http://127.0.0.1:{port}" for port in ports],
        )
    finally:
        for process in (proxy, servers):
            stop(process, 60)


@contextmanager
def ray(model: str, folder: Path, threads: int, **options: Any) -> Iterator[Arrangement]:
    """`hf-reason serve --replicas`."""
    folder.mkdir(parents=True)
    words = [*_words(model, folder, options), "--replicas", str(REPLICAS), "--port", "0"]
    with environment(threads), open(folder / "serve.log", "a", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "hf_reason.cli", "serve", *words], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert server.stdout is not None
    try:
        found = next(filter(None, (re.search(r" at (http://\S+)/v1", line) for line in server.stdout)), None)
        if found is None:
            raise SystemExit(f"hf-reason serve --replicas did not start: see {folder / 'serve.log'}.")
        name = Path(model.rstrip("/")).name
        front = Running(found[1], name, lambda: server.pid)
        yield Arrangement(front, lambda: _children(server.pid, "ServeReplica"), [found[1]])
    finally:
        stop(server, 60)


ARRANGEMENTS = {"embedded": embedded, "nginx": nginx, "ray": ray}


def _words(model: str, folder: Path, options: dict[str, Any]) -> list[str]:
    words = ["--model_name_or_path", model, "--output_dir", str(folder / "served")]
    return words + [word for name, value in options.items() for word in (f"--{name}", str(value))]


def _free_ports(count: int) -> int:
    """The first of so many ports in a row."""
    for first in range(20_000, 60_000, 7):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise SystemExit("there are no free ports.")


def _children(number: int, *words: str) -> list[int]:
    """Processes below one whose command line has these words, one after the other."""
    import psutil

    found = []
    for process in psutil.Process(number).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if " ".join(words) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def kill_under_load(
    arrangement: Arrangement, count: int, questions: Iterator[str], clients: int, max_tokens: int, seconds: float
) -> tuple[Load, float]:
    """Kill one replica halfway through a load.

    Args:
        arrangement: Its servers; they may still be starting.
        count: How many replicas it has.
        questions: Are shared by the clients.
        clients: How many.
        max_tokens: Of an answer.
        seconds: Length of the load.

    Returns:
        The load, and the seconds from the kill until a process that was not there before tells its metrics, as a
        replica does only when it answers.
    """
    before: set[str] = set()

    def all_there() -> bool:
        before.update(arrangement.started())
        return len(before) >= count

    arrangement.wait(all_there)
    whole = math.nan

    def kill() -> None:
        nonlocal whole
        begun = time.perf_counter()
        os.kill(arrangement.replicas()[0], signal.SIGKILL)
        arrangement.wait(lambda: bool(arrangement.started() - before))
        whole = time.perf_counter() - begun

    timer = threading.Timer(seconds / 2, kill)
    timer.start()
    load = run_load(arrangement.front, questions, clients, max_tokens, seconds=seconds)
    timer.join()
    return load, whole


def kill_row(name: str, load: Load, whole: float) -> list[str]:
    """Arrangement, requests, failed ones, the longest answer, seconds until whole."""
    good = [answer.seconds for answer in load.answers if not answer.error]
    failed = len(load.answers) - len(good)
    return [name, str(len(load.answers)), str(failed), f"{max(good, default=math.nan):.1f} s", f"{whole:.1f} s"]
