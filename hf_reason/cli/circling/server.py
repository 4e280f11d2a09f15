"""The server of a circle: one that is started here and changes its models without losing a request, or a running one.

A server of this command listens on a socket that belongs to the command. When the models change, a new process takes
its place on the same socket, and only then the old one is told to stop: it finishes what it has accepted. A process
that dies is started again; until it answers, new connections wait in the socket's queue.
"""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TextIO

from hf_reason._files import write_json_atomically
from hf_reason.cli.serve import ServeArguments, bind, listen

from .client import Client

Models = Sequence[tuple[str, str]]
_WATCH, _RESTART = 0.2, 5.0


class Server(Protocol):
    """Where the models answer."""

    url: str

    def serve(self, models: Models) -> None:
        """Return when these models (name and folder) are served.

        Raises:
            ValueError: if they cannot be.
        """

    def close(self) -> None:
        """Stop what was started here."""


class RunningServer:
    """A server that somebody else runs and restarts.

    Args:
        client: Speaks to it.
        interval: Seconds between two looks at its models.
    """

    def __init__(self, client: Client, interval: float) -> None:
        self.client, self.url, self.interval = client, client.url, interval

    def serve(self, models: Models) -> None:
        told = False
        while missing := [f"{name}={folder}" for name, folder in models if name not in self.client.models()]:
            if not told:
                print(f"   Waiting until {self.url} also serves --model_name_or_path {' '.join(missing)}", flush=True)
                told = True
            time.sleep(self.interval)

    def close(self) -> None:
        return


class OwnServer:
    """`hf-reason serve` in a process of its own.

    Args:
        args: Of the server, without its models.
        settings: The same as they were given, for the process.
        folder: Of the log and of the process's settings.
        lock: Is held by the process as well, see `only_one`.
    """

    def __init__(self, args: ServeArguments, settings: dict[str, object], folder: Path, lock: TextIO) -> None:
        self.args, self.folder, self.lock = args, folder, lock
        self.log, self.restarts = folder / "serve.log", 0
        write_json_atomically(folder / "serve.json", settings)
        self._socket = listen(bind(args.host, args.port))
        self.port = self._socket.getsockname()[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(args.host, args.host)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.models: Models = ()
        self._process: subprocess.Popen[str] | None = None
        self._change, self._closed = threading.Lock(), threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int | None:
        """Of the process that serves now."""
        return None if self._process is None else self._process.pid

    def serve(self, models: Models) -> None:
        with self._change:
            if list(models) == list(self.models):
                return
            fresh = self._start(models)
            old, self._process, self.models = self._process, fresh, models
            _stop(old, self.args.shutdown_timeout)

    def close(self) -> None:
        self._closed.set()
        with self._change:
            self._socket.close()
            _stop(self._process, self.args.shutdown_timeout)
            self._process = None

    def _start(self, models: Models) -> "subprocess.Popen[str]":
        words = ["--config", str(self.folder / "serve.json"), "--model_name_or_path"]
        words += [f"{name}={folder}" for name, folder in models]
        number = self._socket.fileno()
        command = [sys.executable, "-m", "hf_reason.cli.circling.server_process", str(number), *words]
        log = self.log.open("a", encoding="utf-8")
        begun = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,  # open as long as this process lives
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=(number, self.lock.fileno()),
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which stops the server
        )
        ready = threading.Event()
        threading.Thread(target=_copy, args=(process, log, ready), daemon=True).start()
        while not ready.wait(_WATCH):
            if process.poll() is not None:
                text = self.log.read_bytes()[begun:].decode("utf-8", "replace")
                error = next((line for line in text.splitlines() if line.startswith("Error: ")), "")
                raise ValueError(f"the server did not start: {error.removeprefix('Error: ') or f'see {self.log}.'}")
        return process

    def _watch(self) -> None:
        while not self._closed.wait(_WATCH):
            if self._process is None or self._process.poll() is None or not self._change.acquire(blocking=False):
                continue
            try:
                if not self._closed.is_set() and self._process is not None and self._process.poll() is not None:
                    print(f"   The server ended ({self._process.returncode}) and is started again.", flush=True)
                    self.restarts += 1
                    self._process = self._start(self.models)
            except ValueError as error:
                print(f"   {error}", file=sys.stderr, flush=True)
                self._closed.wait(_RESTART)
            finally:
                self._change.release()


def _copy(process: "subprocess.Popen[str]", log: TextIO, ready: threading.Event) -> None:
    assert process.stdout is not None
    with log, contextlib.suppress(ValueError):
        for line in process.stdout:
            log.write(line)
            log.flush()
            if line.startswith("Serving "):
                ready.set()


def _stop(process: "subprocess.Popen[str] | None", patience: float) -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(patience + 10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
