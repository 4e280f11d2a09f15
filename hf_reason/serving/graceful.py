"""An ASGI server whose end costs no request that has reached it."""

import asyncio
import socket

import uvicorn

# Seconds in which a connection that was accepted sends its request.
_READING = 0.5


class GracefulServer(uvicorn.Server):
    """uvicorn's server, which closes connections whose request has not been read yet.

    One that was accepted a moment before the end has its request on the way: the server stops accepting, reads for a
    moment, and ends as uvicorn does. What waits in the socket's queue is for another process that has the socket.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if not self.force_exit:
            await asyncio.sleep(_READING)
        await super().shutdown(sockets)
