"""Who may ask, how often and how much: an ASGI layer before the app."""

import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .errors import ApiError
from .keys import ApiKeys
from .logs import log_event, request_id
from .page.routes import is_page

_log = logging.getLogger(__name__)
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
# What a load balancer asks has no key.
OPEN_PATHS = frozenset(("/health",))
_MAX_CLIENTS = 10_000


class RateLimit:
    """A token bucket for each client: `per_minute` requests at once, and as many again in each minute."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self.now = per_minute, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """0 and the request counts, or the seconds until one would."""
        now = self.now()
        level, then = self._buckets.pop(client, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - then) * self.per_minute / 60)
        wait = 0.0 if level >= 1 else (1 - level) * 60 / self.per_minute
        self._buckets[client] = (level - (not wait), now)
        if len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class Access:
    """Gives each request an id, checks key, rate and size of the body, and logs how it ended.

    The client's name is `scope["state"]["client"]`, the request's id `scope["state"]["request_id"]`.

    Args:
        app: The app behind it.
        keys: Empty lets everybody in.
        max_body_bytes: Largest body.
        max_requests_per_minute: Of a client; `None`: any number.
        failed: Called with the code and the status of each request that is refused here.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        keys: ApiKeys,
        max_body_bytes: int,
        max_requests_per_minute: int | None,
        failed: Callable[[str, int], None],
    ) -> None:
        self.app, self.keys, self.max_body_bytes, self.failed = app, keys, max_body_bytes, failed
        self.rate = None if max_requests_per_minute is None else RateLimit(max_requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, begun, status = f"req-{uuid.uuid4().hex}", time.monotonic(), 0
        scope.setdefault("state", {})["request_id"] = name

        async def tell(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name.encode())]}
            await send(message)

        with request_id(name):
            try:
                self._admit(scope)
                await self.app(scope, await self._bounded(scope, receive), tell)
            except ApiError as error:
                self.failed(error.code, error.status)
                await _answer(error, tell)
            finally:
                fields = {
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status,
                    "client": scope["state"].get("client", ""),
                    "seconds": round(time.monotonic() - begun, 4),
                }
                log_event(_log, "request", fields)

    def _admit(self, scope: Scope) -> None:
        client = (scope.get("client") or ("",))[0]
        if scope["path"] in OPEN_PATHS or is_page(scope["path"]):
            return
        if self.keys:
            given = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
            kind, _, key = given.decode("latin-1").partition(" ")
            client = self.keys.client(key.strip() if kind.lower() == "bearer" else None)
            if client is None:
                raise ApiError(401, "invalid_api_key", "This API key is not known. Send Authorization: Bearer KEY.")
        scope["state"]["client"] = client if self.keys else ""
        if self.rate is not None and (wait := self.rate.wait(client)):
            text = f"Over {self.rate.per_minute} requests a minute. Send it again in {wait:.1f} seconds."
            raise ApiError(429, "rate_limit_exceeded", text, retry_after=int(wait) + 1)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The body read whole, if it is not too large; then the connection's own messages."""
        too_large = ApiError(413, "body_too_large", f"The body is larger than {self.max_body_bytes:,} bytes.")
        length = next((value for key, value in scope["headers"] if key == b"content-length"), b"0")
        if length.isdigit() and int(length[:20]) > self.max_body_bytes:
            raise too_large
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body_bytes:
                raise too_large
        first: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> MutableMapping[str, Any]:
            return first.pop() if first else await receive()

        return replay


async def _answer(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body(), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **error.headers()}
    listed = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": listed})
    await send({"type": "http.response.body", "body": body})
