"""An app on loopback, in a thread of the test's process."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """The address of a running server; at the end it shuts down gracefully."""
    import uvicorn

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"log_level": "error", "access_log": False, "timeout_graceful_shutdown": 5, **options}
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.started
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def ask(port: int, path: str = "/v1/chat/completions", **body: Any) -> tuple[int, Any]:
    """Status and content of an answer; a GET if there is no body."""
    host = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"}
    host.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = host.getresponse()
    said = answer.read()
    return answer.status, json.loads(said) if said.startswith(b"{") else said
