"""A teacher behind an OpenAI-compatible server that returns prompt log-probabilities, as vLLM does."""

import http.client
import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from hf_reason.teachers.errors import TeacherError

API_KEY_VARIABLE = "HF_REASON_TEACHER_API_KEY"
_BACKOFF = 0.5  # seconds before the first retry; each further one waits twice as long
_NO_MASS = math.log(np.finfo(np.float32).tiny)  # stands for a log-probability of -inf, which would make a KL infinite
_ROUNDING = 1e-3  # how far a log-probability may be above 0, or a sum of probabilities above 1
# What a server's refusal says, and the mend.
_MENDS = (
    (r"logprobs of \d+|more than \d+ logprobs|max.logprobs", "Start the server with --max-logprobs {k}, or lower k."),
    (r"prefix cach", "Start the server with --no-enable-prefix-caching."),
    (r"context length|model.len", "A sequence and one more token must fit the server's --max-model-len."),
    (r"^(401|403)", f"Set api_key, or {API_KEY_VARIABLE}."),
    (r"^404", "Check that the URL ends where the API begins (usually /v1) and that the server has this model."),
    (r"^3\d\d", "Redirects are not followed: give the URL that they lead to."),
)


class TopK(NamedTuple):
    """What a teacher says of one sequence of n tokens; row j is about the token after token j.

    `ids` `(n - 1, k)` int64 are the k most likely tokens, most likely first, `log_probs` `(n - 1, k)` float32 theirs,
    and `log_tail` `(n - 1,)` float32 the logarithm of the mass of all others, `-inf` where there is none.
    """

    ids: np.ndarray
    log_probs: np.ndarray
    log_tail: np.ndarray


class ServedTeacher:
    """A model behind a server; nothing is asked of it before the first call.

    Args:
        url: Where the API begins, such as `http://127.0.0.1:8000/v1`; http or https.
        k: Tokens at each position. The server must allow as many: vLLM's `--max-logprobs`, 20 by default.
        model: The name that the server gives it; default: the first that the server lists.
        api_key: Sent as a bearer token; default: the environment variable `HF_REASON_TEACHER_API_KEY`, if set.
        vocab_size: The student's vocabulary; an id at or above it is an error.
        timeout: Seconds without a byte from the server that count as a failure.
        retries: Further tries after a failed connection, a 429 or a 5xx.
        parallel: Requests at a time.

    Raises:
        TeacherError: if `url` is no http or https URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        k: int = 20,
        model: str | None = None,
        api_key: str | None = None,
        vocab_size: int | None = None,
        timeout: float = 120.0,
        retries: int = 3,
        parallel: int = 8,
    ) -> None:
        if k < 1 or parallel < 1 or retries < 0 or not timeout > 0:
            raise TeacherError("A teacher needs k and parallel of at least 1, retries of at least 0 and a timeout.")
        self.url, self.k, self.model, self.vocab_size = _checked_url(url), k, model, vocab_size
        self.timeout, self.retries, self.parallel = timeout, retries, parallel
        self._api_key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()

    def top_k(self, sequences: Sequence[Sequence[int]]) -> list[TopK]:
        """The teacher's k most likely tokens after each token but the last of each sequence.

        A sequence of one token has no rows, and is not sent.

        Raises:
            TeacherError: if the server cannot be reached or refuses, or if its answer lacks positions, tokens or the
                tokens that were sent, or has log-probabilities that are none.
        """
        tokens = [[int(token) for token in sequence] for sequence in sequences]
        if not all(tokens):
            raise TeacherError(f"Sequence {tokens.index([])} has no tokens.")
        if self.model is None:
            listed = self._ask("/models")
            try:
                self.model = listed["data"][0]["id"]
            except (LookupError, TypeError) as error:
                raise TeacherError(f"{self.url}/models lists no model. Give the model's name.") from error
        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(self._one, range(len(tokens)), tokens))

    def probe(
        self,
        sequences: Sequence[Sequence[int]],
        reference: Callable[[Sequence[Sequence[int]]], list[np.ndarray]] | None = None,
        tolerance: float = 0.02,
    ) -> dict[str, float]:
        """Check at the start that the server can teach: what `top_k` checks, that it repeats itself, and who it is.

        Args:
            sequences: A few sequences of token ids as in training, at least one of two tokens or more.
            reference: Gives the log-probabilities `(n - 1, vocabulary)` of a local copy of the teacher.
            tolerance: The largest mean KL, in nats a position, between two answers and between server and copy.

        Returns:
            `repeat`, the mean KL between two answers to the same requests, and with a `reference` `kl`, the mean
            KL(server || local) over the k tokens and all others as one event, and `largest`, the largest difference
            of a log-probability among the served tokens above 0.01.

        Raises:
            TeacherError: as `top_k` does, and if a mean KL is above `tolerance`.
        """
        if not any(len(sequence) > 1 for sequence in sequences):
            raise TeacherError("A probe needs a sequence of at least two tokens.")
        first = self.top_k(sequences)
        # the other way round: what a server takes from its cache depends on what it was asked before
        second = self.top_k(sequences[::-1])[::-1]
        repeat, worst = _mean([_kl(a, *_of_same_ids(a, b)) for a, b in zip(first, second, strict=True)])
        if not repeat <= tolerance:
            raise TeacherError(
                f"{self.url} answers the same requests differently, by {repeat:.3g} nats a position (most {worst}). "
                "Start the server with --no-enable-prefix-caching, without routing over several models."
            )
        if reference is None:
            return {"repeat": repeat}
        local = reference(sequences)
        if len(local) != len(first):
            raise TeacherError(f"The reference gives {len(local)} arrays for {len(first)} sequences.")
        kls, largest = [], 0.0
        for i, (served, full) in enumerate(zip(first, local, strict=True)):
            size = served.ids.max(initial=0) + 1
            if full.ndim != 2 or len(full) != len(served.ids) or full.shape[1] < size:
                raise TeacherError(
                    f"The reference's shape for sequence {i} is {full.shape}; the server has {len(served.ids)} "
                    f"positions and ids up to {size - 1}. Is it the same model?"
                )
            same = np.take_along_axis(full, served.ids, axis=1).astype(np.float64)
            tail = _local_tail(full, served.ids)
            mass = np.exp(same).sum(axis=1) + np.exp(tail)
            # logits would make the KL negative, which no tolerance finds; half precision is off by some percent
            if not (np.abs(mass - 1) < 0.05).all():
                raise TeacherError(f"The reference gives no log-probabilities for sequence {i}: they sum to no 1.")
            kls.append(_kl(served, same, tail))
            gaps = np.abs(served.log_probs - same)[served.log_probs > math.log(0.01)]
            largest = max(largest, float(gaps.max(initial=0.0)))
        kl, worst = _mean(kls)
        if not kl <= tolerance:
            raise TeacherError(
                f"The model at {self.url} is not the local one: KL(server || local) is {kl:.3g} nats a position (most "
                f"{worst}), more than {tolerance}. Check that the server has the same weights without quantisation, "
                "adds no BOS or chat template, and has no logits processors or other sampling settings."
            )
        return {"kl": kl, "largest": largest, "repeat": repeat}

    def _one(self, i: int, tokens: list[int]) -> TopK:
        entries: list[Any] = [None]
        if len(tokens) > 1:
            body = {"model": self.model, "prompt": tokens, "max_tokens": 1, "temperature": 0}
            answer = self._ask("/completions", {**body, "prompt_logprobs": self.k})
            try:
                entries = answer["choices"][0].get("prompt_logprobs")
            except (LookupError, TypeError, AttributeError) as error:
                raise TeacherError(
                    f"{self.url}/completions gives an answer without choices: no completion."
                ) from error
        if not isinstance(entries, list):
            raise TeacherError(
                f"{self.url} returns no prompt_logprobs. Use one that does, such as vLLM; the OpenAI API does not."
            )
        if len(entries) != len(tokens):
            raise TeacherError(
                f"{self.url} returns {len(entries)} positions for the {len(tokens)} tokens of sequence {i}. It must "
                "not cut the prompt, add a BOS or leave out what is in its cache (--no-enable-prefix-caching)."
            )
        ids = np.empty((len(tokens) - 1, self.k), dtype=np.int64)
        log_probs = np.empty(ids.shape)
        for j, entry in enumerate(entries[1:]):
            try:
                ids[j], log_probs[j] = self._row(entry, tokens[j + 1])
            except _BadRow as error:
                raise TeacherError(f"{self.url}, sequence {i}, after token {j}: {error}") from error
        return TopK(ids, log_probs.astype(np.float32), _log_tail(log_probs).astype(np.float32))

    def _row(self, entry: Any, actual: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            ids = np.array([int(token) for token in entry], dtype=np.int64)
            values = np.array([found["logprob"] for found in entry.values()], dtype=np.float64)  # null becomes NaN
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _BadRow("there are no tokens with a logprob. Use a server that answers as vLLM does.") from error
        if not (values <= _ROUNDING).all():
            raise _BadRow("a log-probability is NaN or above 0. Check the served model's weights and its precision.")
        if ids.min(initial=0) < 0 or (self.vocab_size is not None and ids.max(initial=0) >= self.vocab_size):
            raise _BadRow(
                f"an id is outside the vocabulary of {self.vocab_size}: {ids.max()}. Serve one with this tokenizer."
            )
        if actual not in ids:
            raise _BadRow(
                f"the next token, {actual}, is not there: the server shifted or re-tokenised the ids, or added a BOS. "
                "Use a server that takes token ids as they are and returns the prompt's own tokens, as vLLM does."
            )
        if len(ids) < self.k:
            raise _BadRow(f"there are only {len(ids)} tokens, k is {self.k}. Lower k.")
        # the token that was sent stands beside the k tokens; its rank says nothing where logits are tied
        order = np.argsort(-values, kind="stable")[: self.k]
        if np.exp(values[order]).sum() > 1 + _ROUNDING:
            raise _BadRow("the probabilities sum to more than 1: they are no softmax. Is --logprobs-mode logits?")
        return ids[order], values[order]

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """GET, or POST of `body`; retried where that may help. The key is in no message."""
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
        mends = [mend.format(k=self.k) for pattern, mend in _MENDS if re.search(pattern, said, re.IGNORECASE)]
        raise TeacherError(" ".join([f"{self.url}{path} failed, tried {attempt + 1}x: {said}", *mends[:1]]))


class _BadRow(ValueError):
    """What is wrong with one position; `ServedTeacher._one` says which."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could take the key to another server."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _checked_url(url: str) -> str:
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


def _log_tail(log_probs: np.ndarray) -> np.ndarray:
    """`log(1 - sum(exp(log_probs)))` of each row; `-inf` where rounding makes the sum 1 or more."""
    with np.errstate(divide="ignore"):
        mass = np.minimum(np.log(np.exp(log_probs).sum(axis=-1)), 0.0)
        # each of the two forms is exact where the other one cancels
        return np.where(mass > -math.log(2), np.log(-np.expm1(mass)), np.log1p(-np.exp(mass)))


def _local_tail(full: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The logarithm of the mass of all tokens but `ids`, row by row: a whole copy could be gigabytes."""
    tail = np.empty(len(full))
    for j, row in enumerate(full):
        rest = np.delete(row, ids[j])
        with np.errstate(divide="ignore"):
            tail[j] = np.log(np.exp(rest, dtype=np.float64).sum())
    return tail


def _of_same_ids(a: TopK, b: TopK) -> tuple[np.ndarray, np.ndarray]:
    """`b`'s log-probabilities of `a`'s ids and its tail; one that is not in `b` gets the most it can have."""
    match = a.ids[:, :, None] == b.ids[:, None, :]
    found = np.take_along_axis(b.log_probs, match.argmax(axis=2), axis=1)
    same = np.where(match.any(axis=2), found, b.log_probs[:, -1:]).astype(np.float64)
    return same, _log_tail(same)


def _kl(p: TopK, q: np.ndarray, q_tail: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row over p's k tokens and the tail, in nats."""
    of_p = np.concatenate([p.log_probs, p.log_tail[:, None]], axis=1).astype(np.float64)
    of_q = np.concatenate([q, q_tail[:, None]], axis=1)
    of_p, of_q = np.maximum(of_p, _NO_MASS), np.maximum(of_q, _NO_MASS)
    # rounded log-probabilities can make it a little negative
    return np.maximum((np.exp(of_p) * (of_p - of_q)).sum(axis=1), 0.0)


def _mean(kls: list[np.ndarray]) -> tuple[float, str]:
    """The mean over all positions, and where the largest one is."""
    value, i, j = max((float(row.max()), i, int(row.argmax())) for i, row in enumerate(kls) if len(row))
    return float(np.concatenate(kls).mean()), f"{value:.3g} in sequence {i} after token {j}"
