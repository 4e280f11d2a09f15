"""A teacher behind a server with OpenAI's API: several requests at a time, within its limits."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hf_reason.teachers.client import Client
from hf_reason.teachers.errors import RequestError, TeacherError
from hf_reason.text.render import user_text

from .rate import RateLimit
from .settings import Job, TraceSettings, sample_row

# Refusals of one request; any other one would come for all of them.
_OF_THE_REQUEST = (400, 413, 422)
_CUT = ("length", "max_tokens", "content_filter", "tool_calls", "function_call")


class ServedWriter:
    """Asks for samples.

    Args:
        url: Where the API begins.
        settings: How it samples.
        model: Its name on the server; default: the first that the server lists.
        instructions: Template of each domain.
        extra_body: More fields of the request; `None` as a value leaves a field out.
        parallel: Requests at a time.
        limit: Requests and tokens a minute.
        retries: Further tries of a request.
        timeout: Seconds without a byte of an answer. An answer comes when the whole chain is written.
        api_key: Default: the environment variable `HF_REASON_TEACHER_API_KEY`.

    Attributes:
        failures: What was said about requests that were given up, and how often.

    Raises:
        TeacherError: for a URL that is none, a field that a request cannot have, or a server that names no model.
    """

    def __init__(
        self,
        url: str,
        settings: TraceSettings,
        *,
        model: str | None = None,
        instructions: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        parallel: int = 8,
        limit: RateLimit | None = None,
        retries: int = 5,
        timeout: float = 600.0,
        api_key: str | None = None,
    ) -> None:
        if parallel < 1:
            raise TeacherError(f"parallel must be at least 1, got {parallel}.")
        if refused := sorted({"messages", "n", "stream"} & set(extra_body or {})):
            raise TeacherError(f"extra_body: {', '.join(refused)} cannot be set: one request is one sample, whole.")
        self.limit = limit or RateLimit()
        self.client = Client(
            url,
            api_key=api_key,
            timeout=timeout,
            retries=retries,
            retry_no_json=True,
            before=self._wait_for_turn,
            throttled=self.limit.pause,
        )
        self.settings, self.instructions, self.parallel = settings, instructions, parallel
        self.extra_body = dict(extra_body or {})
        self.failures: dict[str, int] = {}
        self._tokens, self._answers = 0, 0  # of the answers that have come
        self._lock, self._try = threading.Lock(), threading.local()
        self.model = model or self._first_model()

    def _first_model(self) -> str:
        listed = self.client.ask("/models")
        try:
            return str(listed["data"][0]["id"])
        except (LookupError, TypeError) as error:
            raise TeacherError(f"{self.client.url}/models lists no model. Give the model's name.") from error

    def write(self, jobs: Sequence[Job]) -> Iterator[list[dict[str, Any]]]:
        """The samples, as they come: rows of the journal, one at a time. A request that is given up gives none.

        Raises:
            TeacherError: for a refusal that would come for every request, or where one request after the other fails.
        """
        waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
        for job in jobs:
            waiting.put(job)
        results: queue.SimpleQueue[dict[str, Any] | Exception] = queue.SimpleQueue()
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    job = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    results.put(self._sample(job))
                except Exception as error:  # it is raised again where the results are read
                    results.put(error)

        # daemons: after Ctrl-C nothing waits for answers that take minutes
        for _ in range(min(self.parallel, len(jobs))):
            threading.Thread(target=work, daemon=True).start()
        in_a_row = 0
        try:
            for _ in range(len(jobs)):
                found = results.get()
                if not isinstance(found, Exception):
                    in_a_row = 0
                    yield [found]
                    continue
                in_a_row += 1
                self._failed(found, in_a_row)
        finally:
            stop.set()

    def _failed(self, error: Exception, in_a_row: int) -> None:
        if not isinstance(error, RequestError):
            raise error
        status = error.status
        passes = status is None or status in (200, 408, 409, 425, 429) or status >= 500
        if not (passes or status in _OF_THE_REQUEST) or in_a_row >= max(3, self.parallel):
            raise error
        said = str(error)[:300]
        self.failures[said] = self.failures.get(said, 0) + 1

    def body(self, job: Job) -> dict[str, Any]:
        """The request for a sample."""
        asked = self.settings
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": user_text(job.record, self.instructions)}],
            "max_tokens": asked.max_completion_length,
            "seed": job.seed,
        }
        if asked.temperature is not None:
            body |= {"temperature": asked.temperature}
        if asked.top_p < 1:
            body |= {"top_p": asked.top_p}
        return {name: value for name, value in {**body, **self.extra_body}.items() if value is not None}

    def _sample(self, job: Job) -> dict[str, Any]:
        row: dict[str, Any] = self.client.ask("/chat/completions", self.body(job), lambda answer: _read(job, answer))
        tokens = row["prompt_tokens"] + row["completion_tokens"]
        if tokens:
            self.limit.settle(tokens - self._try.tokens)
        with self._lock:
            self._tokens, self._answers = self._tokens + tokens, self._answers + 1
        return row

    def _wait_for_turn(self) -> None:
        """Before each try: a request is as long as those before it were, until its own answer says more."""
        with self._lock:
            mean = self._tokens / self._answers if self._answers else self.settings.max_completion_length / 4
        self._try.tokens = mean
        self.limit.acquire(mean)


def _read(job: Job, answer: Any) -> dict[str, Any] | None:
    """The row of an answer; `None` if it is no chat completion."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, thought = _text(message.get("content")), None
        for name in ("reasoning_content", "reasoning"):
            thought = thought or _text(message.get(name)) or None
        usage = answer.get("usage") or {}
        counts = {name: int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
        ended = choice.get("finish_reason") not in _CUT
        forced = choice.get("thought_closed_by") not in (None, "model")  # our own server says so
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return sample_row(job, content, thought=thought, ended=ended, forced=forced, **counts)


def _text(content: Any) -> str:
    """A message's text, which may come in parts; halves of surrogate pairs, which no file can hold, are replaced."""
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    if not isinstance(content, str):
        return ""
    return content if content.isascii() else content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
