"""A request whose connection stands when the server begins to end is answered."""

import asyncio
import socket
import time
from contextlib import nullcontext

import pytest

pytest.importorskip("uvicorn")

import uvicorn

from hf_reason.serving.graceful import GracefulServer


async def _app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.parametrize("kind, answered", [(GracefulServer, True), (uvicorn.Server, False)])
def test_a_connection_without_its_request_yet(kind, answered):
    """uvicorn's own server closes it, which is why ours exists."""

    async def run():
        sock = socket.create_server(("127.0.0.1", 0))
        server = kind(uvicorn.Config(_app, log_config=None, lifespan="off"))
        server.capture_signals = lambda: nullcontext()
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        while not server.server_state.connections:
            await asyncio.sleep(0.01)
        server.should_exit = True
        started = time.monotonic()
        while server.servers and server.servers[0].is_serving():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            found = await reader.read()
        except ConnectionError:
            found = b""
        writer.close()
        await serving
        return found, time.monotonic() - started

    found, seconds = asyncio.run(run())
    assert found.endswith(b"ok") == answered and seconds < 5
