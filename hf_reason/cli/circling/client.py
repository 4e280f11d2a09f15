"""The requests that a circle sends to its server."""

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

_TIMEOUT = 600.0
_BUSY = (429, 503)


class ServerError(ValueError):
    """A server that cannot be reached, or refuses a request. The message says which, and why."""


@dataclass(frozen=True)
class Client:
    """Speaks to a server, from any number of threads: each request has a connection of its own.

    Attributes:
        url: Address, without `/v1`.
        api_key: Sent with each request.
        tries: How often a request is sent that finds no connection, or a server that is busy.
    """

    url: str
    api_key: str | None = None
    tries: int = 20

    def models(self) -> list[str]:
        """Names of the models that are served; none if the server cannot be reached."""
        try:
            return [str(model["id"]) for model in self._send("GET", "/v1/models")["data"]]
        except OSError:
            return []

    def ask(self, **body: Any) -> dict[str, Any]:
        """A chat, see OpenAI's API.

        Raises:
            ServerError: if it fails.
        """
        return self._patiently("/v1/chat/completions", body)

    def feedback(self, **body: Any) -> None:
        """What a user says about an answer.

        Raises:
            ServerError: if it fails.
        """
        self._patiently("/v1/feedback", body)

    def _patiently(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for left in reversed(range(self.tries)):
            try:
                return self._send("POST", path, body)
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    raise ServerError(f"{self.url} cannot be reached: {type(error).__name__}: {error}.") from error
            except _Busy as busy:
                if not left:
                    raise ServerError(str(busy)) from busy
            time.sleep(0.5)
        raise AssertionError

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        place = urlsplit(self.url)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = kind(place.hostname or "", place.port, timeout=_TIMEOUT)
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, quote(place.path.rstrip("/")) + path, sent, headers)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        finally:
            connection.close()
        if answer.status >= 400:
            kind_of_error = _Busy if answer.status in _BUSY else ServerError
            raise kind_of_error(f"{self.url}{path} answered {answer.status}: {_message(text)}")
        return dict(json.loads(text))


class _Busy(ServerError):
    pass


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]
