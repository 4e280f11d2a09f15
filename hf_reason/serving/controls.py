"""The one place that knows the names under which clients ask for a thinking budget, and turns them into one budget.

| name | used by |
|---|---|
| `max_thinking_tokens`, `thinking_budget`, `thinking_token_budget` | Qwen's and Gemini's APIs, vLLM, SGLang |
| `reasoning.max_tokens`, `reasoning.effort`, `reasoning.enabled` | OpenRouter, OpenAI's responses |
| `reasoning_effort` | OpenAI, vLLM |
| `thinking.type`, `thinking.budget_tokens` | Anthropic, DeepSeek, GLM |
| `enable_thinking` | Qwen's API |
| `chat_template_kwargs.{enable_thinking, thinking, thinking_budget}` | vLLM, SGLang, transformers serve |
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .engines.base import LEAST_ANSWER, LEAST_THOUGHT, Budget
from .errors import bad_request

# Fraction of the server's longest thought.
EFFORTS = {"none": 0.0, "minimal": 0.125, "low": 0.25, "medium": 0.5, "high": 1.0, "xhigh": 1.0, "max": 1.0}
_DIRECT = ("max_thinking_tokens", "thinking_budget", "thinking_token_budget")


@dataclass(frozen=True)
class Wish:
    """What a request says about its thought.

    Attributes:
        tokens: Most tokens of it.
        effort: A name of `EFFORTS`.
        enabled: Whether there is to be one; `None` where the request does not say.
        source: The name that said it, for messages.
    """

    tokens: int | None = None
    effort: str | None = None
    enabled: bool | None = None
    source: str = ""


def read_wish(request: Mapping[str, Any]) -> Wish:
    """What all the names in a request say together.

    A number of tokens counts more than an effort. -1 is some APIs' word for "as many as you like".

    Raises:
        ApiError: if two of them contradict each other.
    """
    tokens = _agreed("budgets of the thought", [(n, v) for n, v in _tokens(request) if v != -1])
    efforts = [(n, v) for n, v in _efforts(request) if v is not None]
    effort = _agreed("efforts", efforts)
    switches = [(n, v) for n, v in _switches(request) if v is not None]
    if tokens[1] is not None:
        switches.append((tokens[0], tokens[1] > 0))
    if effort[1] is not None:
        switches.append((effort[0], EFFORTS[effort[1]] > 0))
    source, enabled = _agreed("statements about thinking", switches)
    return Wish(tokens[1], effort[1], enabled, tokens[0] or effort[0] or source)


def _tokens(request: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    places = {
        **{name: request.get(name) for name in _DIRECT},
        "reasoning.max_tokens": (request.get("reasoning") or {}).get("max_tokens"),
        "thinking.budget_tokens": (request.get("thinking") or {}).get("budget_tokens"),
        "chat_template_kwargs.thinking_budget": (request.get("chat_template_kwargs") or {}).get("thinking_budget"),
    }
    return ((name, value) for name, value in places.items() if value is not None)


def _efforts(request: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "reasoning_effort", request.get("reasoning_effort")
    yield "reasoning.effort", (request.get("reasoning") or {}).get("effort")


def _switches(request: Mapping[str, Any]) -> Iterator[tuple[str, bool | None]]:
    template = request.get("chat_template_kwargs") or {}
    yield "enable_thinking", request.get("enable_thinking")
    yield "chat_template_kwargs.enable_thinking", template.get("enable_thinking")
    yield "chat_template_kwargs.thinking", template.get("thinking")
    yield "reasoning.enabled", (request.get("reasoning") or {}).get("enabled")
    kind = (request.get("thinking") or {}).get("type", "auto")
    yield "thinking.type", {"enabled": True, "disabled": False}.get(kind)  # "auto", "adaptive": the server's default


def _agreed(what: str, said: list[tuple[str, Any]]) -> tuple[str, Any]:
    if not said:
        return "", None
    name, value = said[0]
    for other, its in said[1:]:
        if its != value:
            raise bad_request(f"The {what} contradict each other: {name} and {other}. Send one of them.", other)
    return name, value


def budget_of(wish: Wish, max_tokens: int | None, *, max_thought_tokens: int, max_answer_tokens: int) -> Budget:
    """The budget of a chain.

    All numbers are upper bounds: the server's hold as well. A limit on everything leaves room for an answer: a quarter
    of it, at least 8 tokens; what the thought leaves over, the answer may use. Where nothing is left for a thought
    that was not asked for, there is none.

    Args:
        wish: What the request says.
        max_tokens: Its limit on thought and answer together.
        max_thought_tokens, max_answer_tokens: The server's limits.

    Raises:
        ApiError: if a thought was asked for that does not fit `max_tokens`.
    """
    thought = max_thought_tokens
    if wish.tokens is not None:
        thought = min(thought, wish.tokens)
    elif wish.effort is not None:
        thought = int(thought * EFFORTS[wish.effort])
        thought = max(thought, LEAST_THOUGHT) if EFFORTS[wish.effort] else 0
    if wish.enabled is False:
        thought = 0
    budget = Budget(thought, max_answer_tokens)
    if max_tokens is None:
        return budget
    limited = budget.within(max_tokens)
    if thought and limited.thought < LEAST_THOUGHT:
        if wish.enabled:
            raise bad_request(
                f"max_tokens={max_tokens} has no room for a thought and an answer: ask for at least "
                f"{LEAST_THOUGHT + LEAST_ANSWER}, or turn thinking off.",
                "max_tokens",
            )
        return Budget(0, max_answer_tokens).within(max_tokens)
    return limited
