"""HTTP to a server with OpenAI's API: requests with retries, and errors that say what to do."""

import email.utils
import http.client
import json
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .errors import RequestError, TeacherError

API_KEY_VARIABLE = "HF_REASON_TEACHER_API_KEY"
# Seconds before the first retry; each further one waits twice as long, up to the longest.
_BACKOFF, _LONGEST_BACKOFF = 0.5, 60.0
_LONGEST_RETRY_AFTER = 600.0  # what a server may ask for; a longer wait is for the user to decide
_MAY_PASS = (408, 409, 425, 429)  # and all from 500 on
# A 429 that no waiting helps.
_NO_CREDIT = re.compile(r"insufficient.quota|exceeded your current quota|insufficient balance", re.IGNORECASE)
# What a server's refusal says, and what helps.
_HINTS = (
    (
        r"logprobs of \d+|more than \d+ logprobs|max.logprobs",
        "Start the server with --max-logprobs {top_k}, or lower top_k.",
    ),
    (r"prefix cach", "Start the server with --no-enable-prefix-caching."),
    (r"context length|model.len", "A sequence and one more token must fit the server's --max-model-len."),
    (r"^(401|403)", f"Set api_key, or {API_KEY_VARIABLE}."),
    (_NO_CREDIT.pattern, "The account has no credit left."),
    (r"^404", "Check that the URL ends where the API begins (usually /v1) and that the server has this model."),
    (r"^3\d\d", "Redirects are not followed: give the URL that they lead to."),
)


class Client:
    """Asks a server.

    Args:
        url: Where the API begins, such as `http://127.0.0.1:8000/v1`; http or https.
        api_key: Sent as a bearer token; default: the environment variable `HF_REASON_TEACHER_API_KEY`, if set.
        timeout: Seconds without a byte from the server that count as a failure.
        retries: Further tries after a failed or broken connection, a 429 or a 5xx; a server's `Retry-After` is kept.
        retry_no_json: Also try again after an answer that is no JSON, or not what was asked for.
        before: Called before each try, for example to wait.
        throttled: Called with the seconds for which a server asks to be left alone.

    Raises:
        TeacherError: if `url` is no http or https URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 120.0,
        retries: int = 3,
        retry_no_json: bool = False,
        before: Callable[[], None] | None = None,
        throttled: Callable[[float], None] | None = None,
    ) -> None:
        if retries < 0 or not timeout > 0:
            raise TeacherError("A server needs retries of at least 0 and a timeout above 0.")
        self.url, self.timeout, self.retries = checked_url(url), timeout, retries
        self._api_key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()
        self._retry_no_json, self._before, self._throttled = retry_no_json, before, throttled

    def ask(self, path: str, body: dict[str, Any] | None = None, read: Callable[[Any], Any] | None = None) -> Any:
        """The parsed answer to a GET of `path`, or to a POST of `body`; retried where that may help.

        Args:
            path: After the URL.
            body: What is sent.
            read: Makes of an answer what is returned; `None` where it is not what was asked for.

        Raises:
            RequestError: if there is no answer, a refusal, or one that cannot be used. The key is in no message.
        """
        wait = 0.0
        for attempt in range(self.retries + 1):
            if attempt:
                backoff = min(_BACKOFF * 2 ** (attempt - 1), _LONGEST_BACKOFF)
                # not all of several requests at once
                time.sleep(max(wait, backoff) * random.uniform(1, 1.25))
            if self._before is not None:
                self._before()
            try:
                return self._read(self._answer(path, body), read)
            except _FailedTry as error:
                failed, wait = error, error.wait
                if not error.may_pass or wait > _LONGEST_RETRY_AFTER:
                    break
        top_k, said = (body or {}).get("prompt_logprobs"), str(failed)
        hints = [hint.format(top_k=top_k) for pattern, hint in _HINTS if re.search(pattern, said, re.IGNORECASE)]
        words = [f"{self.url}{path} failed, tried {attempt + 1}x: {said}", *hints[:1]]
        raise RequestError(" ".join(words), failed.status)

    def _read(self, answer: bytes, read: Callable[[Any], Any] | None) -> Any:
        try:
            found = json.loads(answer)
        except ValueError:
            raise _FailedTry("it answers no JSON. Check the URL.", 200, self._retry_no_json) from None
        wanted = found if read is None else read(found)
        if read is not None and wanted is None:
            said = " ".join(answer.decode(errors="replace").split())[:200]
            raise _FailedTry(f"its answer is not what was asked for: {said}", 200, self._retry_no_json)
        return wanted

    def _answer(self, path: str, body: dict[str, Any] | None) -> bytes:
        """One try.

        Raises:
            _FailedTry: if it is none.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.timeout) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            wait = _retry_after(error.headers)
            said = f"{error.code}: {_message(error)}"
            may_pass = (error.code in _MAY_PASS or error.code >= 500) and not _NO_CREDIT.search(said)
            if wait > _LONGEST_RETRY_AFTER:
                said += f" (it asks to be left alone for {wait:.0f} s)"
            elif wait and may_pass and self._throttled is not None:
                self._throttled(wait)
            raise _FailedTry(said, error.code, may_pass, wait) from None
        except (OSError, http.client.HTTPException) as error:
            said = f"no answer ({getattr(error, 'reason', None) or error!r}). Is the server up?"
            raise _FailedTry(said, None, True) from None


class _FailedTry(Exception):
    """What a try came to, and whether another one may help."""

    def __init__(self, said: str, status: int | None, may_pass: bool = True, wait: float = 0.0) -> None:
        super().__init__(said)
        self.status, self.may_pass, self.wait = status, may_pass, wait


def _retry_after(headers: Any) -> float:
    """Seconds that a server asks to wait, as a number or as a date; 0 if it does not say."""
    said = headers.get("Retry-After") or ""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0


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
