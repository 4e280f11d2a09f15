"""HTTP to a server with OpenAI's API: requests, streams, and its failures as errors of ours."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from hf_reason.teachers.client import checked_url

from .base import EngineError

_log = logging.getLogger(__name__)
API_KEY_VARIABLE = "HF_REASON_ENGINE_API_KEY"
_CONNECT = 10.0  # seconds
_LARGEST_LINE = 16_000_000  # bytes of one event


class Upstream:
    """A server.

    Args:
        url: Where its API begins, such as `http://127.0.0.1:8001/v1`.
        api_key: Sent as a bearer token; it is in no message and no log.
        timeout: Seconds without a byte that count as a failure.

    Raises:
        ValueError: if `url` is none, or has a password in it.
    """

    def __init__(self, url: str, *, api_key: str = "", timeout: float = 120.0) -> None:
        try:
            self.url = checked_url(url)
        except Exception as error:
            raise ValueError(f"engine_url: {error}") from error
        self.root = self.url.removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=timeout)
        self._session: aiohttp.ClientSession | None = None
        self.down = False
        self.running = 0

    async def ask(self, address: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that a GET, or a POST of `body`, is answered with.

        Raises:
            EngineError: if there is none.
        """
        async with self._open(address, body) as response:
            try:
                return json.loads(await response.read())
            except ValueError as error:
                raise self._broken("answers with no JSON") from error

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The events of a stream up to `[DONE]`. Closing the iterator closes the connection, which ends the work.

        Raises:
            EngineError: if the server refuses, fails, is silent for too long, or breaks off.
        """
        async with self._open(self.url + path, body) as response:
            waiting = b""
            async for data in response.content.iter_any():
                *lines, waiting = (waiting + data).split(b"\n")
                if len(waiting) > _LARGEST_LINE:
                    raise self._broken("sends an event without an end")
                for line in lines:
                    found = line.strip()
                    if not found.startswith(b"data:"):
                        continue  # comments keep the connection alive
                    found = found[5:].strip()
                    if found == b"[DONE]":
                        return
                    yield self._event(found)
            raise self._broken("broke off its stream")

    def _event(self, line: bytes) -> dict[str, Any]:
        try:
            event = json.loads(line)
        except ValueError as error:
            raise self._broken("sends an event that is no JSON") from error
        if not isinstance(event, dict):
            raise self._broken("sends an event that is no object")
        if event.get("error"):
            raise self._refused(_status_in(event["error"]), event, None)
        return event

    @asynccontextmanager
    async def _open(self, address: str, body: dict[str, Any] | None) -> AsyncGenerator[aiohttp.ClientResponse]:
        """A response that is good so far; what goes wrong inside becomes an error of the engine."""
        try:
            response = await self._send(address, body)
            try:
                self.down = False
                if response.status != 200:
                    raise await self._refusal(response)
                yield response
            finally:
                response.close()
        except aiohttp.ServerTimeoutError as error:
            message = f"The server behind this one was silent for {self._timeout.sock_read:g} seconds."
            raise EngineError(message, status=504, code="upstream_timeout") from error
        except aiohttp.ClientConnectorError as error:
            self.down = True
            _log.warning("%s cannot be reached: %s", self.url, error)
            message = "The server behind this one cannot be reached. Send the request again later."
            raise EngineError(message, status=503, code="upstream_unavailable", retry_after=5) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._broken(f"broke off ({type(error).__name__})") from error

    async def _send(self, address: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        method = "GET" if body is None else "POST"
        for attempt in range(2):
            try:  # a redirect could take the key to another server
                return await self._session.request(method, address, json=body, allow_redirects=False)
            except aiohttp.ServerTimeoutError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # a connection that was kept from before a restart of the server; a new one tells
                if attempt or isinstance(error, aiohttp.ClientConnectorError):
                    raise
        raise AssertionError("unreachable")

    async def _refusal(self, response: aiohttp.ClientResponse) -> EngineError:
        text = (await response.content.read(100_000)).decode(errors="replace")
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        return self._refused(response.status, body, response.headers.get("Retry-After"))

    def _refused(self, status: int, body: Any, retry_after: str | None) -> EngineError:
        said = _said(body)
        _log.warning("%s answers with status %d", self.url, status)
        if status in (400, 413, 422):
            return EngineError(f"The server behind this one refuses: {said}", status=400, code="upstream_refused")
        if status == 429:
            seconds = int(retry_after) if retry_after and retry_after.isdigit() else 5
            message = "The server behind this one has too much to do. Send the request again later."
            return EngineError(message, status=429, code="upstream_busy", retry_after=seconds)
        if status in (401, 403):
            _log.error("%s refuses the key in %s", self.url, API_KEY_VARIABLE)
            return EngineError("The server behind this one refuses its key.", status=502, code="upstream_key")
        if status == 503:
            message = "The server behind this one is not ready. Send the request again later."
            return EngineError(message, status=503, code="upstream_unavailable", retry_after=5)
        return EngineError(f"The server behind this one failed ({status}).", status=502, code="upstream_error")

    def _broken(self, what: str) -> EngineError:
        _log.warning("%s %s", self.url, what)
        return EngineError(f"The server behind this one {what}.", status=502, code="upstream_broken")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
            await asyncio.sleep(0)


def _status_in(error: Any) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500


def _said(body: Any) -> str:
    """What the server says, in one line; the place differs between servers and versions."""
    error = body.get("error", body) if isinstance(body, dict) else body
    text = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
    return " ".join(str(text).split())[:500]
