"""HTTP to a server with OpenAI's API: requests with retries, and errors that say what to do."""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from .errors import TeacherError

API_KEY_VARIABLE = "HF_REASON_TEACHER_API_KEY"
_BACKOFF = 0.5  # seconds before the first retry; each further one waits twice as long
# What a server's refusal says, and what helps.
_HINTS = (
    (
        r"logprobs of \d+|more than \d+ logprobs|max.logprobs",
        "Start the server with --max-logprobs {top_k}, or lower top_k.",
    ),
    (r"prefix cach", "Start the server with --no-enable-prefix-caching."),
    (r"context length|model.len", "A sequence and one more token must fit the server's --max-model-len."),
    (r"^(401|403)", f"Set api_key, or {API_KEY_VARIABLE}."),
    (r"^404", "Check that the URL ends where the API begins (usually /v1) and that the server has this model."),
    (r"^3\d\d", "Redirects are not followed: give the URL that they lead to."),
)


class Client:
    """Asks a server.

    Args:
        url: Where the API begins, such as `http://127.0.0.1:8000/v1`; http or https.
        api_key: Sent as a bearer token; default: the environment variable `HF_REASON_TEACHER_API_KEY`, if set.
        timeout: Seconds without a byte from the server that count as a failure.
        retries: Further tries after a failed connection, a 429 or a 5xx.

    Raises:
        TeacherError: if `url` is no http or https URL, or a number is out of range.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 120.0, retries: int = 3) -> None:
        if retries < 0 or not timeout > 0:
            raise TeacherError("A server needs retries of at least 0 and a timeout above 0.")
        self.url, self.timeout, self.retries = checked_url(url), timeout, retries
        self._api_key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The parsed answer to a GET of `path`, or to a POST of `body`; retried where that may help.

        Raises:
            TeacherError: if there is no answer, a refusal, or one that is no JSON. The key is in no message.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(_NoRedirect)
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(_BACKOFF * 2 ** (attempt - 1))
            try:
                request = urllib.request.Request(self.url + path, data=data, headers=headers)
                with opener.open(request, timeout=self.timeout) as response:
                    answer = response.read()
            except urllib.error.HTTPError as error:
                said = f"{error.code}: {_message(error)}"
                if error.code != 429 and error.code < 500:
                    break
            except (OSError, http.client.HTTPException) as error:
                said = f"no answer ({getattr(error, 'reason', None) or error!r}). Is the server up?"
            else:
                try:
                    return json.loads(answer)
                except ValueError as error:
                    raise TeacherError(f"{self.url}{path} answers no JSON. Check the URL.") from error
        top_k = (body or {}).get("prompt_logprobs")
        hints = [hint.format(top_k=top_k) for pattern, hint in _HINTS if re.search(pattern, said, re.IGNORECASE)]
        raise TeacherError(" ".join([f"{self.url}{path} failed, tried {attempt + 1}x: {said}", *hints[:1]]))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could take the key to another server."""

    def redirect_request(self, *args: Any) -> None:
        return None


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        TeacherError: if it is no http or https URL, or has a password in it.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f]", url):
        raise TeacherError(f"{url!r} is no URL of a server. Give one such as http://127.0.0.1:8000/v1.")
    if "@" in parts.netloc:
        raise TeacherError(f"The URL of {parts.hostname} has a password in it. Give it as api_key instead.")
    return url.rstrip("/")


def _message(error: urllib.error.HTTPError) -> str:
    """What the server says, in one line: vLLM puts it in `error.message`, older versions in `message`."""
    try:
        text = error.read().decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        answer = json.loads(text)
        answer = answer.get("error", answer)
        text = answer if isinstance(answer, str) else str(answer.get("message") or text)
    except (ValueError, AttributeError):
        pass  # not JSON, or not of that form: as it is
    return " ".join(text.split())[:500] or error.reason
