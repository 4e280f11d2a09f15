"""Events of a chat's or a completion's stream, whatever server sends them, as one form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .base import TokenLogprob

# The thought's field: DeepSeek, SGLang, llama.cpp and vLLM until 0.11; OpenRouter and vLLM since.
_THOUGHT = ("reasoning_content", "reasoning")


@dataclass(frozen=True)
class Delta:
    """What an event adds.

    Attributes:
        thought: Text in a field of its own for the thought.
        text: Other text.
        steps: The thought's steps, from a server of this project.
        logprobs: Of the tokens.
        finish: Why the output ended; "" while it goes on.
        stopped_at: The stop text that ended it, where the server says so.
        closed_by: Who closed the thought, from a server of this project.
        usage: Counts of tokens so far.
    """

    thought: str = ""
    text: str = ""
    steps: tuple[str, ...] | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str = ""
    stopped_at: str = ""
    closed_by: str = ""
    usage: dict[str, Any] | None = None


def read_delta(event: dict[str, Any]) -> Delta:
    """An event of `/chat/completions` or `/completions`.

    Raises:
        ValueError: if it has another form.
    """
    try:
        usage = event.get("usage")
        choices = event.get("choices") or []
        if not choices:
            return Delta(usage=usage)
        choice = choices[0]
        message = choice.get("delta") or choice.get("message") or {}
        stopped = choice.get("stop_reason", choice.get("matched_stop"))
        steps = message.get("steps")
        return Delta(
            thought=next((str(text) for name in _THOUGHT if (text := message.get(name))), ""),
            text=str(message.get("content") or choice.get("text") or ""),
            steps=None if steps is None else tuple(map(str, steps)),
            logprobs=_logprobs(choice.get("logprobs")),
            finish=str(choice.get("finish_reason") or ""),
            stopped_at=stopped if isinstance(stopped, str) else "",
            closed_by=str(choice.get("thought_closed_by") or ""),
            usage=usage,
        )
    except (AttributeError, LookupError, TypeError) as error:
        raise ValueError("an event of another form") from error


def _logprobs(found: Any) -> tuple[TokenLogprob, ...]:
    """As chats have them, and as completions do."""
    if not found:
        return ()
    if found.get("content") is not None:
        return tuple(
            TokenLogprob(one["token"], _number(one["logprob"]), _top(one.get("top_logprobs") or ()))
            for one in found["content"]
        )
    tops: Sequence[Any] = found.get("top_logprobs") or [None] * len(found.get("tokens") or ())
    return tuple(
        TokenLogprob(token, _number(value), tuple((text, _number(its)) for text, its in (top or {}).items()))
        for token, value, top in zip(found.get("tokens") or (), found.get("token_logprobs") or (), tops, strict=False)
    )


def _top(found: Sequence[Any]) -> tuple[tuple[str, float], ...]:
    return tuple((one["token"], _number(one["logprob"])) for one in found)


def _number(value: Any) -> float:
    return -math.inf if value is None else float(value)
