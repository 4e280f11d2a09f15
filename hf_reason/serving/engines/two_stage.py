"""A chain on a server that knows no budgets: one request for the thought, a second one for the answer.

The first ends at the closing tag, or after the thought's budget; then the thought is closed, at the end of a step
where that can be seen coming, and the second request continues behind it. Both are bounded by `max_tokens`, so the
budgets hold on every server.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from hf_reason.text.chat import mode_options
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, closes, opened_by_prompt

from .base import End, EngineError, Job, Piece
from .dialects import Dialect, turns
from .replies import Delta, read_delta
from .texts import AnswerText, ThoughtText
from .upstream import Upstream


async def deltas(upstream: Upstream, path: str, body: dict[str, Any]) -> AsyncGenerator[Delta]:
    """The events of a request.

    Raises:
        EngineError: as `Upstream.events` does, and for events of another form.
    """
    async with aclosing(upstream.events(path, body)) as events:
        async for event in events:
            try:
                yield read_delta(event)
            except ValueError as error:
                message = f"The server behind this one sends {error}."
                raise EngineError(message, status=502, code="upstream_broken") from error


def sampling(job: Job, model: str) -> dict[str, Any]:
    """What every request of a chain says. Where the client is silent, the server's own defaults hold."""
    asked = {"temperature": job.temperature, "top_p": job.top_p, "top_k": job.top_k or None, "seed": job.seed}
    penalties = {"frequency_penalty": job.frequency_penalty, "presence_penalty": job.presence_penalty}
    said = {name: value for name, value in asked.items() if value is not None}
    return {"model": model, "stream": True, **said, **{name: value for name, value in penalties.items() if value}}


@dataclass
class _Count:
    """Tokens of a request: as the server says, or an event a token until it does."""

    events: int = 0
    said: int | None = None
    prompt: int = 0

    def add(self, delta: Delta) -> None:
        self.events += bool(delta.text or delta.thought)
        if delta.usage:
            self.said = int(delta.usage.get("completion_tokens") or 0)
            self.prompt = int(delta.usage.get("prompt_tokens") or 0)

    @property
    def tokens(self) -> int:
        return self.events if self.said is None else self.said


class TwoStages:
    """Runs one chain.

    Args:
        upstream: The server.
        dialect: What it offers.
        model: Its name for the model.
        job: What is asked for.
    """

    def __init__(self, upstream: Upstream, dialect: Dialect, model: str, job: Job) -> None:
        self.upstream, self.dialect, self.model, self.job = upstream, dialect, model, job
        self.thought, self.count = ThoughtText(), _Count()
        self.opening = f"{OPEN_TAG}\n"  # what stands in front of the thought's text; "" where the prompt has it
        self.closed_by, self.is_answer = "", False
        self.line, self.longest = 0, 0  # tokens of the thought's last line, and of its longest

    async def run(self) -> AsyncGenerator[Piece]:
        """The pieces of the chain.

        Raises:
            EngineError: if the server fails.
        """
        prompt = await self.dialect.prompt(self.upstream, self.model, self.job.prompt)
        if self.job.prompt.thinking:
            async with aclosing(self._think(prompt)) as pieces:
                async for piece in pieces:
                    yield piece
            if self.is_answer:
                yield self._only_answer()
                return
            yield Piece(self._rest_of_thought(), steps=self.thought.steps)
        async with aclosing(self._answer(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    # the thought

    async def _think(self, prompt: str | None) -> AsyncGenerator[Piece]:
        limit = self.job.budget.thought - self.dialect.closing
        body = {**sampling(self.job, self.model), **self.dialect.extras, "stop": [CLOSE_TAG]}
        if prompt is None:
            path, known = "/chat/completions", False
            body |= {"messages": turns(self.job.prompt), "chat_template_kwargs": mode_options(True)}
        else:
            path, known = "/completions", True
            opened = opened_by_prompt(prompt)
            if CLOSE_TAG in opened:
                raise EngineError(
                    "The model's chat template closes the thought, so this model cannot think: turn it off.",
                    status=400,
                    code="unreadable_request",
                )
            self.opening = "" if opened.endswith("\n") else "\n" if opened else f"{OPEN_TAG}\n"
            limit -= 2 if self.opening else 0
            body |= self.dialect.completion(prompt + self.opening)
        limit, in_field = max(limit, 1), False
        raw, finish, stopped_at = "", "", ""
        async with aclosing(deltas(self.upstream, path, {**body, "max_tokens": limit})) as found:
            async for delta in found:
                self.count.add(delta)
                finish, stopped_at = delta.finish or finish, delta.stopped_at or stopped_at
                in_field = in_field or bool(delta.thought)
                if delta.thought:
                    raw += delta.thought
                elif delta.text and in_field:
                    self.closed_by = "model"  # the server has closed the thought, and goes on with the answer
                    break
                else:
                    raw += delta.text
                known = known or in_field or not closes(raw)  # there is a tag, or the label of a first step
                if known:
                    more = self.thought.push(raw[len(self.thought.text) :])
                    if more:
                        yield Piece(more)
                    if CLOSE_TAG in raw:
                        self.closed_by = "model"
                        break
                    if not delta.finish and self._should_close(raw, limit):
                        self.closed_by = "budget"
                        break
        self._end_thought(raw, known, finish, stopped_at)
        if prompt is None and not in_field and not self.thought.text.lstrip().startswith(OPEN_TAG):
            self.opening = ""  # the server's prompt has it

    def _should_close(self, raw: str, limit: int) -> bool:
        """Whether a line has ended, and there may be no room for another one: as `ThoughtBudget` does it."""
        self.line += 1
        if not raw.endswith("\n"):
            return False
        self.longest, self.line = max(self.longest, self.line), 0
        return limit - self.count.tokens < self.longest

    def _end_thought(self, raw: str, known: bool, finish: str, stopped_at: str) -> None:
        if self.closed_by:
            return
        if finish == "length":
            self.closed_by = "budget"
        elif stopped_at == CLOSE_TAG or CLOSE_TAG in raw:
            self.closed_by = "model"
        elif not known:  # an output without tags that ended by itself
            self.is_answer = True
        else:
            says_which = self.dialect.owner in ("vllm", "sglang")
            self.closed_by = "stop" if says_which else "model"
        if not known and self.closed_by == "budget" and "\n" in raw.strip():
            raw = raw.rstrip()[: raw.rstrip().rindex("\n") + 1]  # nothing of it has been shown yet
        self.thought.text = raw

    def _rest_of_thought(self) -> str:
        return self.thought.close()[0]

    def _only_answer(self) -> Piece:
        """A model without thoughts has answered in the first request."""
        text = AnswerText(self.job.stop)
        answer = text.push(self.thought.text, final=True)
        end = End("stop", "", self.count.prompt, 0, self.count.tokens)
        return Piece(answer=answer, end=end)

    # the answer

    def _continued(self, prompt: str | None) -> tuple[str, dict[str, Any]]:
        """Path and body of the request for the answer, its prompt only."""
        job = self.job
        inner = self.thought.text.lstrip().removeprefix(OPEN_TAG).lstrip("\n")
        closing = CLOSE_TAG if not inner or inner.endswith("\n") else f"\n{CLOSE_TAG}"
        if prompt is not None:
            whole = prompt
            if job.prompt.thinking:
                ended = f"{inner}{CLOSE_TAG}" if self.closed_by == "model" else f"{inner}{closing}"
                whole = prompt + self.opening + ended
            return "/completions", self.dialect.completion(whole)
        messages: list[dict[str, str]] = turns(job.prompt)
        if not job.prompt.thinking:
            return "/chat/completions", {"messages": messages, "chat_template_kwargs": mode_options(False)}
        written = f"{self.opening}{inner.rstrip()}\n{CLOSE_TAG}\n\n"
        return "/chat/completions", {
            "messages": [*messages, {"role": "assistant", "content": written}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "chat_template_kwargs": mode_options(True),
        }

    async def _answer(self, prompt: str | None) -> AsyncGenerator[Piece]:
        job = self.job
        used = self.count.tokens
        if job.prompt.thinking:
            used += self.dialect.closing if self.closed_by != "model" else 0
            used = min(used + (2 if self.opening and prompt is not None else 0), job.budget.thought)
        left = job.budget.answer if job.budget.total is None else min(job.budget.answer, job.budget.total - used)
        path, body = self._continued(prompt)
        body |= {**sampling(job, self.model), **self.dialect.extras, "max_tokens": max(left, 1)}
        if job.stop:
            body["stop"] = list(job.stop)
        if self.dialect.owner in ("vllm", "sglang"):
            body["min_tokens"] = min(2, max(left, 1))
        if job.num_logprobs is not None:
            chat = path == "/chat/completions"
            body |= {"logprobs": True, "top_logprobs": job.num_logprobs} if chat else {"logprobs": job.num_logprobs}
        text, count, finish = AnswerText(job.stop), _Count(), "stop"
        skip = _Skip(not job.prompt.thinking and prompt is None)
        async with aclosing(deltas(self.upstream, path, body)) as found:
            async for delta in found:
                count.add(delta)
                finish = delta.finish or finish
                # behind a closed thought everything is the answer, whatever the server's parser takes it for
                said = delta.thought + delta.text if job.prompt.thinking or prompt is not None else delta.text
                more = text.push(skip.push(said))
                if more or delta.logprobs:
                    yield Piece(answer=more, logprobs=_within(delta.logprobs, job.num_logprobs))
                if text.stopped:
                    finish = "stop"
                    break
        rest = text.push(skip.push("", final=True), final=True)
        reason = "length" if finish == "length" else "stop"
        prompt_tokens = self.count.prompt or count.prompt
        thought_tokens = used if job.prompt.thinking else 0
        yield Piece(answer=rest, end=End(reason, self.closed_by, prompt_tokens, thought_tokens, count.tokens))


class _Skip:
    """Leaves out a thought at the beginning, which a model has written though it was told not to."""

    def __init__(self, active: bool) -> None:
        self.waiting: str | None = "" if active else None

    def push(self, text: str, final: bool = False) -> str:
        if self.waiting is None:
            return text
        self.waiting += text
        start = self.waiting.lstrip()
        rest = self.waiting
        if start.startswith(OPEN_TAG):
            _, tag, rest = start.partition(CLOSE_TAG)
            if not tag:
                return ""
        elif OPEN_TAG.startswith(start) and not final:
            return ""
        self.waiting = None
        return rest


def _within(logprobs: Sequence[Any], count: int | None) -> tuple[Any, ...]:
    return () if count is None else tuple(logprobs)
