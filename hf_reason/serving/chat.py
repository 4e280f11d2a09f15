"""`/v1/chat/completions`: a request becomes chains, and chains become a response."""

import asyncio
import logging
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from .cache import ResultCache
from .chains import Chain, Chains
from .checks import StepChecks, check_answer
from .controls import budget_of, read_wish
from .engines.base import Accepted, Engine, Job, Piece, Prompt
from .errors import ApiError, bad_request
from .experiments import Experiments
from .feedback import FeedbackStore, Served
from .judging import Judge
from .metrics import Metrics
from .responses import ALIVE, DONE, ChunkWriter, Head, completion, event, first_choice, usage
from .schema import ChatRequest
from .settings import ServeSettings

_log = logging.getLogger(__name__)


@dataclass
class Ticket:
    """A request that was accepted.

    Attributes:
        request: What was asked.
        jobs: Its chains.
        head: Of the response.
        client: Who asks, by the API key.
        arm: `experiment/arm`; empty outside an experiment.
        begun: When it came (`time.monotonic`).
        first: Seconds until the first piece.
        chains: What is known of each chain.
    """

    request: ChatRequest
    jobs: list[Accepted]
    head: Head
    client: str
    arm: str = ""
    begun: float = field(default_factory=time.monotonic)
    first: float | None = None
    chains: list[Chain] = field(default_factory=list)

    @property
    def model(self) -> str:
        return self.head.model


class Chat:
    """Answers chat requests.

    Args:
        engine: Generates chains.
        settings: What is allowed.
        cache: Of results.
        metrics: Are counted here.
        feedback: Remembers what was served; `None` without feedback.
        experiments: Which version of a model answers whom; `None`: the one that was asked for.
    """

    def __init__(
        self,
        engine: Engine,
        settings: ServeSettings,
        cache: ResultCache,
        metrics: Metrics,
        feedback: FeedbackStore | None = None,
        experiments: Experiments | None = None,
    ) -> None:
        self.engine, self.settings, self.metrics = engine, settings, metrics
        self.feedback, self.experiments = feedback, experiments
        self.chains = Chains(engine, cache, metrics.looked_up, settings.chunk_interval)
        self.judge = Judge(experiments, metrics)

    async def accept(self, request: ChatRequest, client: str) -> Ticket:
        """Check a request.

        Args:
            request: What was asked.
            client: Who asks.

        Raises:
            ApiError: if it cannot be answered as it is, or not now.
        """
        names = [card.name for card in self.engine.models()]
        model, identity = request.model or names[0], f"chatcmpl-{uuid.uuid4().hex}"
        if request.n > self.settings.max_choices:
            raise bad_request(f"n is {request.n}; this server gives at most {self.settings.max_choices}.", "n")
        if self.engine.load().waiting + request.n > self.settings.max_queue_size:
            raise ApiError(429, "queue_full", "Too many requests wait. Send it again later.", retry_after=5)
        # the name of an experiment's model outlives its first version
        model, arm = await self._version(request, model, request.user or client or identity, names)
        if model not in names:
            shown = ", ".join(names[:20])
            raise ApiError(404, "model_not_found", f"There is no model {model[:200]!r}. There are {shown}.", "model")
        wanted = self._job(request, model)
        try:
            jobs = [
                await asyncio.to_thread(self.engine.check, job) for job in _samples(wanted, request.n, request.seed)
            ]
        except ValueError as error:
            raise bad_request(" ".join(str(error).split()), code="unreadable_request") from error
        head = Head(identity, int(time.time()), model, jobs[0].card.revision)
        return Ticket(request, jobs, head, client, arm, chains=[Chain() for _ in jobs])

    async def _version(self, request: ChatRequest, model: str, unit: str, names: Sequence[str]) -> tuple[str, str]:
        """The version that answers in place of a model, and `experiment/arm`."""
        if self.experiments is None or not request.experiment:
            return model, ""
        found = await asyncio.to_thread(self.experiments.assign, model, unit)
        if found.version is None:
            return model, ""
        if found.version not in names:
            _log.error("the experiment on %s chose %s, which is not served", model, found.version)
            return model, ""
        return found.version, f"{found.experiment}/{found.arm}" if found.arm else ""

    def _job(self, request: ChatRequest, model: str) -> Job:
        budget = budget_of(
            read_wish(request.model_dump(exclude_none=True)),
            request.limit,
            max_thought_tokens=self.settings.max_thought_tokens,
            max_answer_tokens=min(self.settings.max_answer_tokens, request.max_answer_tokens or sys.maxsize),
        )
        turns = tuple(message.turn() for message in request.messages)
        prompt = Prompt(turns, request.task, request.domain, thinking=budget.thought > 0)
        return Job(
            model=model,
            prompt=prompt,
            budget=budget,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed,
            frequency_penalty=request.frequency_penalty,
            presence_penalty=request.presence_penalty,
            stop=tuple(request.stop or ()),
            num_logprobs=(request.top_logprobs or 0) if request.logprobs else None,
            sample=request.n > 1,
        )

    async def complete(self, ticket: Ticket) -> dict[str, Any]:
        """The body of a response that is not streamed.

        Raises:
            ApiError: if the engine failed, or was too slow.
        """
        try:
            async for _ in self._pieces(ticket):
                pass
            await self._remember(ticket)
        except ApiError as error:
            self.metrics.failed(error.code, model=ticket.model, arm=ticket.arm, status=error.status)
            raise
        self._count(ticket)
        await self._judge(ticket)
        problem = ticket.request.problem if ticket.request.check_steps else None
        return await asyncio.to_thread(completion, ticket.head, ticket.chains, ticket.request.vote, problem)

    async def stream(self, ticket: Ticket) -> AsyncGenerator[bytes]:
        """The lines of a streamed response. A failure after the first line is an event with the error's body."""
        writer = ChunkWriter(ticket.head, len(ticket.jobs))
        options = ticket.request.stream_options
        checks = [StepChecks(ticket.request.problem) for _ in ticket.jobs if ticket.request.check_steps]
        try:
            async with aclosing(self._pieces(ticket)) as pieces:
                async for item in pieces:
                    found = await asyncio.to_thread(_checked, ticket, checks, *item) if item and checks else ()
                    for line in [ALIVE] if item is None else writer.chunks(*item, *found):
                        yield line
            await self._remember(ticket)
        except ApiError as error:
            self.metrics.failed(error.code, model=ticket.model, arm=ticket.arm, status=error.status)
            yield event(error.body())
            return
        self._count(ticket)
        await self._judge(ticket)
        if options is not None and options.include_usage:
            yield writer.usage(ticket.chains)
        yield DONE

    async def _pieces(self, ticket: Ticket) -> AsyncGenerator[Any]:
        owner = ticket.client if self.settings.isolate_keys else None
        self.metrics.running.inc()
        whole = False
        try:
            async with aclosing(self.chains.run(ticket.jobs, owner, self.settings.request_timeout)) as pieces:
                async for item in pieces:
                    if item is not None:
                        if ticket.first is None:
                            ticket.first = time.monotonic() - ticket.begun
                        number, piece = item
                        ticket.chains[number].add(piece)
                    yield item
            whole = True
        except ApiError:
            whole = True  # counted as an error
            raise
        finally:
            self.metrics.running.dec()
            if not whole:
                self.metrics.disconnects.labels(ticket.model, ticket.arm).inc()

    def _count(self, ticket: Ticket) -> None:
        used = usage(ticket.chains)
        closed = [chain.end.closed_by for chain in ticket.chains if chain.end is not None and chain.end.closed_by]
        self.metrics.answered(
            ticket.model,
            arm=ticket.arm,
            latency=time.monotonic() - ticket.begun,
            first_token=ticket.first,
            prompt_tokens=used["prompt_tokens"],
            completion_tokens=used["completion_tokens"],
            reasoning_tokens=used["completion_tokens_details"]["reasoning_tokens"],
            thought_ends=["closed" if by == "model" else "forced" for by in closed],
        )

    async def _judge(self, ticket: Ticket) -> None:
        """Compare the first choice with the reference that the request carries."""
        request = ticket.request
        if request.reference:
            answer = ticket.chains[first_choice(ticket.chains, request.vote)].answer
            unit = request.user or ticket.client or ticket.head.id
            place = {"model": ticket.model, "arm": ticket.arm, "unit": unit}
            try:
                await asyncio.to_thread(self.judge.answered, answer, request.reference, **place)
            except Exception as error:  # the answer is good without its outcome
                _log.error("an answer was not judged: %s", type(error).__name__)

    async def _remember(self, ticket: Ticket) -> None:
        """Keep the answers for feedback to come. A conversation of several turns is no record."""
        messages = ticket.request.messages
        if self.feedback is None or len(messages) > 1:
            return
        for number, chain in enumerate(ticket.chains):
            served = Served(
                request_id=ticket.head.id,
                context=messages[0].turn()["content"],
                answer=chain.answer,
                steps=chain.steps,
                task=ticket.request.task,
                domain=ticket.request.domain or "general",
                choice=number,
                model=ticket.model,
                model_version=ticket.head.revision,
                arm=ticket.arm,
                user=ticket.request.user or ticket.client,
            )
            await asyncio.to_thread(self.feedback.remember, served)


def _checked(ticket: Ticket, checks: Sequence[StepChecks], number: int, piece: Piece) -> tuple[Any, Any]:
    """What a piece adds to the check of its chain: about the steps, and at the end about the answer."""
    answer = check_answer(ticket.chains[number].answer) if piece.end is not None else None
    return checks[number].add(piece.thought, piece.steps), answer


def _samples(job: Job, count: int, seed: int | None) -> Sequence[Job]:
    """A job for each chain, with a seed of its own."""
    return [job if seed is None else replace(job, seed=seed + number) for number in range(count)]
