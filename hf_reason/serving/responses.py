"""Chains in the shape of OpenAI's API: whole, and as chunks of a stream.

The thought is apart from the content, under both names that clients read: `reasoning_content` (DeepSeek, vLLM until
0.11, SGLang) and `reasoning` (OpenRouter, vLLM since). `steps` are its parsed steps.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.generation.voting import count_votes

from .chains import Chain
from .checks import check_answer, check_steps
from .engines.base import Piece, TokenLogprob

_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}


@dataclass(frozen=True)
class Head:
    """What all parts of a response share."""

    id: str
    created: int
    model: str
    revision: str

    def fields(self, kind: str) -> dict[str, Any]:
        """The head of a body."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.revision or None,
        }


def usage(chains: Sequence[Chain]) -> dict[str, Any]:
    """Tokens of a request; the prompt counts once, the thought is part of the completion."""
    ends = [chain.end for chain in chains if chain.end is not None]
    thought, answer = sum(end.thought_tokens for end in ends), sum(end.answer_tokens for end in ends)
    prompt = ends[0].prompt_tokens if ends else 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": thought + answer,
        "total_tokens": prompt + thought + answer,
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def first_choice(chains: Sequence[Chain], vote: bool) -> int:
    """The chain that a response puts first: with a vote the first of the winner's."""
    votes = count_votes([chain.answer for chain in chains]) if vote else []
    return votes[0].chains[0] if votes else 0


def completion(head: Head, chains: Sequence[Chain], vote: bool, problem: str | None = None) -> dict[str, Any]:
    """The body of a response that is not streamed; with a vote the winner is the first choice.

    Args:
        head: Of the response.
        chains: All of them, ended.
        vote: Whether the answers are counted.
        problem: What the steps are checked against; `None`: they are not checked.
    """
    order, votes = list(range(len(chains))), []
    if vote:
        votes = count_votes([chain.answer for chain in chains])
        order.sort(key=lambda number: number != (votes[0].chains[0] if votes else 0))
    body = head.fields("chat.completion")
    body["choices"] = [_choice(index, chains[number]) for index, number in enumerate(order)]
    if problem is not None:
        for choice in body["choices"]:
            choice["message"] |= {
                "checks": check_steps(choice["message"]["steps"], problem),
                "answer_check": check_answer(choice["message"]["content"]),
            }
    body["usage"] = usage(chains)
    if vote:
        place = {number: index for index, number in enumerate(order)}
        body["votes"] = [
            {
                "answer": its.answer,
                "count": its.count,
                "ratio": its.ratio,
                "choices": sorted(place[number] for number in its.chains),
            }
            for its in votes
        ]
    return body


def _choice(index: int, chain: Chain) -> dict[str, Any]:
    end = chain.end
    assert end is not None  # only whole chains are answered
    thought = chain.thought if end.closed_by else None
    return {
        "index": index,
        "message": {
            "role": "assistant",
            "content": chain.answer,
            "reasoning_content": thought,
            "reasoning": thought,
            "steps": list(chain.steps),
        },
        "finish_reason": end.reason,
        "thought_closed_by": end.closed_by or None,
        "logprobs": _logprobs(chain.logprobs),
    }


def _logprobs(found: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    if not found:
        return None

    def token(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": max(value, -9999.0), "bytes": list(text.encode())}

    return {"content": [{**token(t.text, t.logprob), "top_logprobs": [token(*top) for top in t.top]} for t in found]}


class ChunkWriter:
    """The chunks of a stream, as lines of server-sent events."""

    def __init__(self, head: Head, count: int) -> None:
        self.head = head
        self.begun = [False] * count

    def chunks(
        self,
        index: int,
        piece: Piece,
        checks: Mapping[str, Any] | None = None,
        answer_check: Mapping[str, Any] | None = None,
    ) -> list[bytes]:
        """What a piece of choice `index` adds: thought, then steps, then content, each in a chunk of its own.

        Args:
            index: The choice.
            piece: The piece.
            checks: What `StepChecks` says about it.
            answer_check: With the last piece: what is to be said of the answer.
        """
        deltas: list[dict[str, Any]] = []
        if not self.begun[index]:
            self.begun[index] = True
            deltas.append({"role": "assistant", "content": ""})
        if piece.thought:
            deltas.append({"reasoning_content": piece.thought, "reasoning": piece.thought})
        if piece.steps is not None:
            deltas.append({"steps": list(piece.steps)})
        if checks is not None:
            deltas.append(dict(checks))
        if piece.answer or piece.logprobs:
            deltas.append({"content": piece.answer})
        if answer_check is not None:
            deltas.append({"answer_check": answer_check})
        lines = []
        for delta in deltas:
            logprobs = _logprobs(piece.logprobs) if "content" in delta and "role" not in delta else None
            lines.append(self._chunk([{"index": index, "delta": delta, "finish_reason": None, "logprobs": logprobs}]))
        if piece.end is not None:
            closed_by = piece.end.closed_by or None
            last = {"index": index, "delta": {}, "finish_reason": piece.end.reason, "logprobs": None}
            lines.append(self._chunk([{**last, "thought_closed_by": closed_by}]))
        return lines

    def usage(self, chains: Sequence[Chain]) -> bytes:
        """The last chunk, if the client asked for it."""
        return self._chunk([], usage=usage(chains))

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self.head.fields("chat.completion.chunk"), "choices": choices, **more})


def event(data: Mapping[str, Any] | str) -> bytes:
    """A server-sent event on one line: JSON escapes line breaks, and here also those that only some clients know."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.translate(_LINE_ENDS)
    return f"data: {text}\n\n".encode()


DONE = event("[DONE]")
ALIVE = b": waiting\n\n"
