"""What the API asks of an engine: one chain at a time, as pieces of text in the order thought, answer."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

# Tokens that an answer needs at least, and a thought with its tags.
LEAST_ANSWER, LEAST_THOUGHT = 8, 8


class EngineError(Exception):
    """A request failed inside an engine.

    Args:
        message: For the log; also for the client where `code` is not "engine_error".
        status: HTTP status of the response.
        code: What went wrong, for programs.
        retry_after: Seconds after which the request may be sent again.
    """

    def __init__(
        self, message: str, *, status: int = 500, code: str = "engine_error", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after = status, code, retry_after


@dataclass(frozen=True)
class Prompt:
    """What a model is to read.

    Attributes:
        messages: `role` (system, user, assistant) and `content`, a text, of each turn; the last one is the user's.
        task: What is asked of the reasoner, besides the last message.
        domain: Whose instruction template is used, and whose task LoAR routes for.
        thinking: `False` answers without a thought.
    """

    messages: tuple[dict[str, str], ...]
    task: str = ""
    domain: str = ""
    thinking: bool = True


@dataclass(frozen=True)
class Budget:
    """How far a chain may go, in tokens.

    Attributes:
        thought: Most tokens of the thought, both tags included; 0 without a thought.
        answer: Most tokens of the answer.
        total: Most tokens of both together; `None`: what both allow.
    """

    thought: int
    answer: int
    total: int | None = None

    def within(self, total: int) -> "Budget":
        """The budget under a limit on both together: a quarter of it is kept for the answer, at least `LEAST_ANSWER`.

        What the thought leaves over, the answer may use.
        """
        total = total if self.total is None else min(total, self.total)
        if not self.thought:
            return Budget(0, min(self.answer, total))
        kept = min(self.answer, max(LEAST_ANSWER, total // 4))
        return Budget(min(self.thought, max(total - kept, 0)), self.answer, total)


@dataclass(frozen=True)
class Job:
    """A chain that is asked for.

    Attributes:
        model: Name of the model, with its adapter (`base`, `base:finance`).
        prompt: What it reads.
        budget: How far it may go.
        temperature: 0 is greedy; `None` as the model's own generation config says.
        seed: `None` draws differently each time.
        top_p, top_k, frequency_penalty, presence_penalty: See `hf_reason.generation.live.Sampling`; `top_p` and
            `top_k` of `None` as the model's own generation config says.
        stop: Texts that end the answer; they are left out of it.
        num_logprobs: As in `LiveChain`.
        sample: Whether it is one of several samples, which are drawn even where the model is greedy by itself.
    """

    model: str
    prompt: Prompt
    budget: Budget
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    num_logprobs: int | None = None
    sample: bool = False


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the answer with its log-probability, and the likeliest ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """More text of a chain.

    Attributes:
        thought: More of the thought.
        answer: More of the answer.
        steps: With the piece that follows the thought: the whole thought's steps.
        logprobs: Of the answer's tokens that the piece completes.
        end: With the last piece: how it ended.
    """

    thought: str = ""
    answer: str = ""
    steps: tuple[str, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    end: "End | None" = None


def joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces of one chain that follow each other, as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        "".join(piece.thought for piece in pieces),
        "".join(piece.answer for piece in pieces),
        next((piece.steps for piece in reversed(pieces) if piece.steps is not None), None),
        tuple(logprob for piece in pieces for logprob in piece.logprobs),
        pieces[-1].end,
    )


@dataclass(frozen=True)
class End:
    """How a chain ended.

    Attributes:
        reason: "stop" or "length" (the answer's budget, or that of both).
        closed_by: Who closed the thought: "model", "budget", "stop" (see `CoTOutput`); "" without a thought.
        prompt_tokens, thought_tokens, answer_tokens: Their numbers.
    """

    reason: str
    closed_by: str
    prompt_tokens: int
    thought_tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class ModelCard:
    """A model that an engine serves.

    Attributes:
        name: As requests name it.
        created: When its weights were written, in seconds since 1970.
        base: Name of the model below an adapter.
        revision: Changes when the weights, the adapter, the tokenizer or the templates change.
    """

    name: str
    created: int
    base: str | None = None
    revision: str = ""


@dataclass(frozen=True)
class Accepted:
    """A job that an engine will do.

    Attributes:
        job: What was asked for.
        card: The model.
        prompt_ids: The prompt's tokens; they and `settings` determine the result, if `deterministic`.
        settings: Budget, sampling and stops as they hold.
        deterministic: Greedy, or with a seed of the client's.
        inside: The engine's own.
    """

    job: Job
    card: ModelCard
    prompt_ids: tuple[int, ...]
    settings: dict[str, Any]
    deterministic: bool
    inside: Any = None


@dataclass
class Load:
    """Chains that an engine is generating, and those that wait."""

    running: int = 0
    waiting: int = 0


class Engine(Protocol):
    """Generates chains for the API. Its methods are called from one event loop."""

    def models(self) -> list[ModelCard]:
        """What is served, the default first."""

    def check(self, job: Job) -> Accepted:
        """Everything about a job that can be refused before it is accepted; may be called on another thread.

        Raises:
            KeyError: if the model is not served.
            ValueError: naming what is wrong and what would be right.
        """

    def stream(self, accepted: Accepted) -> AsyncGenerator[Piece]:
        """Generate; the last piece has an `end`. Closing the iterator gives the chain's place to another.

        Raises:
            EngineError: if the engine failed.
        """

    def problem(self) -> str | None:
        """What keeps it from answering at all; `None` if nothing does."""

    def load(self) -> Load:
        """What is running and what is waiting."""

    async def close(self) -> None:
        """Stop; chains that are running fail."""
