"""What a server measures, for Prometheus: requests, errors, times, tokens, thoughts, cache, queue and batches.

A registry of its own, so that two apps in one process (and tests) do not share counters. The dashboard that reads
these names is `recipes/serve/grafana.json`; a test checks it against them.
"""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client import PlatformCollector as _Platform
from prometheus_client import ProcessCollector as _Process

from hf_reason.version import __version__

PREFIX = "hf_reason"
# Seconds. A token of a small model on a GPU is 5 ms, a long chain on a CPU minutes.
_FIRST_TOKEN = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENCY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_SPEED = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# How a thought ended: by itself, by its budget (closed by the server), or not at all (`max_tokens`, a stop).
THOUGHT_ENDS = ("closed", "forced", "open")
# Where a requested result came from: the cache or not; "bypass" for requests whose result is not deterministic.
CACHE_RESULTS = ("hit", "miss", "bypass")


class Metrics:
    """The metrics of one app.

    Args:
        process: Also export the process's own (memory, CPU, open files), under `process_...`.

    `model` labels hold the served name ("base:finance"), which the app has checked against its list: an unknown name
    of a request must not become a label, or a client could fill the memory with names. `arm` is "" outside an
    experiment.
    """

    def __init__(self, process: bool = True) -> None:
        self.registry = CollectorRegistry()
        if process:
            _Process(registry=self.registry)
            _Platform(registry=self.registry)
        Info(PREFIX, "The server's version.", registry=self.registry).info({"version": __version__})
        model = ("model", "arm")
        self.requests = self._counter("requests", "Requests that were answered, by HTTP status.", (*model, "status"))
        self.errors = self._counter("errors", "Requests that failed, by kind of error.", ("kind",))
        self.disconnects = self._counter("disconnects", "Clients that left before their answer.", model)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token.", model, _FIRST_TOKEN
        )
        self.latency = self._histogram(
            "request_latency_seconds", "From the request to the end of its answer.", model, _LATENCY
        )
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.", model)
        self.completion_tokens = self._counter("completion_tokens", "Tokens that were generated.", model)
        self.speed = self._histogram(
            "tokens_per_second", "Generated tokens of a request by its latency.", model, _SPEED
        )
        self.reasoning_tokens = self._histogram("reasoning_tokens", "Tokens of a thought.", model, _TOKENS)
        self.thoughts = self._counter("thoughts", "Thoughts, by how they ended.", (*model, "end"))
        self.cache = self._counter("cache_lookups", "Look-ups in the cache of results.", ("result",))
        self.cache_entries = self._gauge("cache_entries", "Results in the cache.")
        self.cache_bytes = self._gauge("cache_bytes", "Bytes of the results in the cache.")
        self.queue = self._gauge("queue_size", "Requests that wait for a place in a batch.")
        self.running = self._gauge("running_requests", "Requests that are being answered.")
        self.batch_size = self._histogram("batch_size", "Sequences of a decoding step.", (), _BATCH)
        self.feedback = self._counter("feedback", "Feedback that was stored, by kind.", (*model, "kind"))
        self.outcomes = self._counter("outcomes", "Outcomes of experiments.", ("experiment", "arm", "outcome"))
        self.verified = self._counter(
            "verified_answers", "Answers with a known reference: right, wrong or undecided.", (*model, "result")
        )
        # a series that is missing cannot be told from one that is 0
        for result in CACHE_RESULTS:
            self.cache.labels(result)

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, tuple(labels), registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: Iterable[str], buckets: Iterable[float]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, tuple(labels), registry=self.registry, buckets=tuple(buckets))

    def answered(
        self,
        model: str,
        *,
        arm: str = "",
        status: int = 200,
        latency: float,
        first_token: float | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        reasoning_tokens: int = 0,
        thought_ends: Iterable[str] = (),
    ) -> None:
        """Count a request that was answered.

        Args:
            model, arm: Who answered.
            status: HTTP status.
            latency, first_token: Seconds since the request came; `first_token` is `None` for an answer from the cache.
            prompt_tokens, completion_tokens: As in `usage`; the completion's include the thought's.
            reasoning_tokens: Tokens of the thoughts of all choices.
            thought_ends: How the thought of each choice ended, one of `THOUGHT_ENDS`; nothing for one without.

        Raises:
            ValueError: for an end that is unknown.
        """
        ends = list(thought_ends)
        if unknown := sorted(set(ends) - set(THOUGHT_ENDS)):
            raise ValueError(f"thought_ends has {', '.join(unknown)}; known: {', '.join(THOUGHT_ENDS)}.")
        self.requests.labels(model, arm, str(status)).inc()
        self.latency.labels(model, arm).observe(latency)
        if first_token is not None:
            self.first_token.labels(model, arm).observe(first_token)
            if latency > 0 and completion_tokens:
                self.speed.labels(model, arm).observe(completion_tokens / latency)
        self.prompt_tokens.labels(model, arm).inc(prompt_tokens)
        self.completion_tokens.labels(model, arm).inc(completion_tokens)
        if ends:
            self.reasoning_tokens.labels(model, arm).observe(reasoning_tokens / len(ends))
        for end in ends:
            self.thoughts.labels(model, arm, end).inc()

    def failed(self, kind: str, *, model: str = "", arm: str = "", status: int = 500) -> None:
        """Count a request that failed. `kind` is the API's error code ("rate_limit_exceeded"), never its message."""
        self.requests.labels(model, arm, str(status)).inc()
        self.errors.labels(kind).inc()

    def looked_up(self, result: str) -> None:
        """Count a look-up in the cache: one of `CACHE_RESULTS`."""
        if result not in CACHE_RESULTS:
            raise ValueError(f"{result!r} is not one of {', '.join(CACHE_RESULTS)}.")
        self.cache.labels(result).inc()

    def render(self) -> tuple[bytes, str]:
        """The body of `/metrics` and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def samples(self) -> dict[str, tuple[str, ...]]:
        """The name of each sample that `render` may write and its labels: `_total`, `_bucket`, `_sum`, `_count`."""
        found: dict[str, tuple[str, ...]] = {}
        for metric in [value for value in vars(self).values() if isinstance(value, Counter | Gauge | Histogram)]:
            found.update(_samples(metric))
        return found


def _samples(metric: Any) -> dict[str, tuple[str, ...]]:
    name, labels = metric._name, tuple(metric._labelnames)
    if isinstance(metric, Counter):
        return {f"{name}_total": labels}
    if isinstance(metric, Histogram):
        return {f"{name}_bucket": (*labels, "le"), f"{name}_sum": labels, f"{name}_count": labels}
    return {name: labels}
