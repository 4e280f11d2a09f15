"""The engine `openai`: a gateway to servers with OpenAI's API, such as vLLM, SGLang, llama.cpp or this project's own.

Nothing here loads a model, or torch. The servers generate; the gateway knows what they answer with, and adds budgets,
steps and everything that the API has around an engine (keys, limits, votes, feedback, experiments).
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from .apart import run_apart
from .base import LEAST_THOUGHT, Accepted, End, EngineError, Job, Load, ModelCard, Piece
from .dialects import Dialect, find_dialect, render_here, turns
from .template import ChatTemplate
from .two_stage import TwoStages, deltas, sampling
from .upstream import Upstream

_log = logging.getLogger(__name__)
# Seconds between two looks at a server, and at one that is down.
_REFRESH, _RETURN = 30.0, 2.0


@dataclass
class _Place:
    """A server that has a model: its name there, and how it is spoken to."""

    upstream: Upstream
    name: str
    dialect: Dialect


@dataclass
class _Model:
    card: ModelCard
    places: list[_Place] = field(default_factory=list)


class OpenAIEngine:
    """`Engine` in front of servers. Make it with `connect`.

    Args:
        upstreams: The servers.
        names: Names of the models that are served -> their names on the servers; empty for all of them.
        template: Renders prompts here; default: the servers do.
        max_batch_size: Chains that the servers are given at once.
        revision: Of the weights; "" if nobody says which these are, and then nothing is cached.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        names: dict[str, str] | None = None,
        template: ChatTemplate | None = None,
        max_batch_size: int = 256,
        revision: str = "",
    ) -> None:
        self.upstreams, self.names, self.template = list(upstreams), names or {}, template
        self.max_batch_size, self.revision = max_batch_size, revision
        self._models: dict[str, _Model] = {}
        self._open = self._running = 0
        self._places: asyncio.Semaphore | None = None
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    def connect(cls, upstreams: Sequence[Upstream], **options: Any) -> "OpenAIEngine":
        """An engine that knows the servers' models.

        Raises:
            ValueError: if a server cannot be reached, or lacks a model; it says what to do.
        """
        engine = cls(upstreams, **options)

        async def look() -> None:
            try:
                await engine.refresh()
            finally:
                await asyncio.gather(*(upstream.close() for upstream in engine.upstreams))

        try:
            run_apart(look())
        except EngineError as error:
            raise ValueError(
                f"engine_url: {error} Start it first; the URL ends where its API begins, usually in /v1."
            ) from error
        if missing := [its for name, its in engine.names.items() if name not in engine._models]:
            raise ValueError(f"engine_url: no server has the model {missing[0]}.")
        if not engine._models:
            raise ValueError("engine_url: the servers list no model.")
        return engine

    async def refresh(self) -> None:
        """Ask all servers for their models.

        Raises:
            EngineError: if one does not answer.
        """
        failures = []
        for upstream in self.upstreams:
            try:
                await self._look(upstream)
            except EngineError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _look(self, upstream: Upstream) -> None:
        try:
            listed = await upstream.ask(f"{upstream.url}/models")
            cards = [one for one in listed["data"] if isinstance(one["id"], str)]
        except (LookupError, TypeError) as error:
            upstream.down = True
            raise EngineError(f"{upstream.url}/models lists no models.", code="upstream_broken") from error
        except EngineError:
            upstream.down = True
            raise
        wanted = {its: name for name, its in self.names.items()}
        dialect: Dialect | None = None
        found: dict[str, _Place] = {}
        for one in cards:
            name = wanted.get(one["id"]) if wanted else one["id"]
            if name is None:
                continue
            dialect = dialect or await find_dialect(upstream, one["id"], str(one.get("owned_by")), self.template)
            found[name] = _Place(upstream, one["id"], dialect)
            created, base = one.get("created"), one.get("parent")
            card = ModelCard(
                name,
                created if isinstance(created, int) else 0,
                base if isinstance(base, str) else None,
                self.revision and f"{self.revision} {one['id']}",
            )
            self._models.setdefault(name, _Model(card))
        for name, model in self._models.items():
            model.places = [place for place in model.places if place.upstream is not upstream]
            if name in found:
                model.places.append(found[name])
        upstream.down = False

    def models(self) -> list[ModelCard]:
        if self._watch is None:
            with suppress(RuntimeError):  # no loop yet
                self._watch = asyncio.get_running_loop().create_task(self._keep_looking())
        cards = {name: model.card for name, model in self._models.items()}
        order = [name for name in self.names if name in cards]
        return [cards[name] for name in (*order, *(name for name in cards if name not in order))]

    async def _keep_looking(self) -> None:
        """Find out what has changed, and when a server comes back."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_RETURN)
            due = time.monotonic() - looked > _REFRESH
            looked = time.monotonic() if due else looked
            for upstream in self.upstreams:
                if not (due or upstream.down):
                    continue
                try:
                    await self._look(upstream)
                except EngineError:
                    pass  # logged; it is down
                except Exception:
                    _log.exception("a look at %s failed", upstream.url)

    def check(self, job: Job) -> Accepted:
        model = self._models[job.model]
        if job.prompt.thinking and job.budget.thought < LEAST_THOUGHT:
            raise ValueError(
                f"The budget of the thought is {job.budget.thought} tokens; it must be at least {LEAST_THOUGHT}. "
                "0 answers without a thought."
            )
        if self.template is not None:
            render_here(self.template, job.prompt)
        settings = asdict(job)
        deterministic = bool(self.revision) and (job.temperature == 0 or job.seed is not None)
        return Accepted(job, model.card, (), settings, deterministic, model)

    async def stream(self, accepted: Accepted) -> AsyncGenerator[Piece]:
        if self._places is None:
            self._places = asyncio.Semaphore(self.max_batch_size)
        self._open += 1
        try:
            async with self._places:
                self._running += 1
                try:
                    async with aclosing(self._run(accepted.inside, accepted.job)) as pieces:
                        async for piece in pieces:
                            yield piece
                finally:
                    self._running -= 1
        finally:
            self._open -= 1

    async def _run(self, model: _Model, job: Job) -> AsyncGenerator[Piece]:
        """From the server with the least to do; from the next one if it cannot be reached."""
        places = sorted(model.places, key=lambda place: (place.upstream.down, place.upstream.running))
        failure = EngineError(
            f"No server has {model.card.name} any more.", status=503, code="upstream_unavailable", retry_after=5
        )
        for place in places:
            place.upstream.running += 1
            begun = False
            try:
                async with aclosing(_pieces(place, job)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except EngineError as error:
                if begun or error.code != "upstream_unavailable":
                    raise
                failure = error
            finally:
                place.upstream.running -= 1
        raise failure

    def problem(self) -> str | None:
        if all(upstream.down for upstream in self.upstreams):
            return "No server behind this one can be reached."
        return None

    def load(self) -> Load:
        return Load(self._running, self._open - self._running)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(upstream.close() for upstream in self.upstreams))


def _pieces(place: _Place, job: Job) -> AsyncGenerator[Piece]:
    if place.dialect.kind == "native":
        return _native(place, job)
    return TwoStages(place.upstream, place.dialect, place.name, job).run()


async def _native(place: _Place, job: Job) -> AsyncGenerator[Piece]:
    """From a server of this project, which knows all of it."""
    budget = job.budget
    body: dict[str, Any] = {
        **sampling(job, place.name),
        "messages": turns(job.prompt),
        "stream_options": {"include_usage": True},
        "thinking_budget": budget.thought if job.prompt.thinking else 0,
        "max_answer_tokens": budget.answer,
        "domain": job.prompt.domain,
        "experiment": False,
    }
    body["messages"][-1]["content"] = job.prompt.messages[-1]["content"]
    body["task"] = job.prompt.task
    if budget.total is not None:
        body["max_tokens"] = budget.total
    if job.stop:
        body["stop"] = list(job.stop)
    if job.num_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": job.num_logprobs}
    if job.sample and job.temperature is None and job.top_p is None:
        body["temperature"] = 1.0
    finish, closed_by, usage = "", "", dict[str, Any]()
    async with aclosing(deltas(place.upstream, "/chat/completions", body)) as found:
        async for delta in found:
            finish, closed_by, usage = delta.finish or finish, delta.closed_by or closed_by, delta.usage or usage
            if delta.thought or delta.text or delta.steps is not None or delta.logprobs:
                yield Piece(delta.thought, delta.text, delta.steps, delta.logprobs)
    thought = int((usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0)
    answer = int(usage.get("completion_tokens") or 0) - thought
    yield Piece(end=End(finish or "stop", closed_by, int(usage.get("prompt_tokens") or 0), thought, answer))
