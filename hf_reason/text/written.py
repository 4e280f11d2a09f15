"""The steps of a completion that a model wrote, each with its tokens: what credit for single steps rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_reason.data.segment.steps import segment_chain, strip_numbering

from .render import (
    OPEN_TAG,
    closes,
    is_labelled,
    numbered_steps,
    opened_by_prompt,
    parse,
    split_completion,
    step_starts,
)
from .spans import decoded, token_places

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class WrittenChain:
    """A completion, read.

    Attributes:
        steps: The steps' texts without labels and tags.
        step_ids: One a token: 1..n the step, n + 1 the answer.
        answer: The text after the thought; empty when the thought was not closed.
        has_thought: Whether there is one, closed or not.
        closed: Whether it was closed.
    """

    steps: list[str]
    step_ids: list[int]
    answer: str
    has_thought: bool
    closed: bool


def read_chain(
    ids: Sequence[int], tokenizer: "PreTrainedTokenizerBase", prompt: str = "", ends: Sequence[int] = ()
) -> WrittenChain:
    """Read a completion from its token ids, which are decoded and never tokenised again.

    A thought with labels (`步骤1:`) has the steps that they name. One of prose is cut as `hf_reason.data.segment` cuts
    the chains of the data.

    Args:
        ids: The completion's tokens, with or without the end-of-turn token.
        tokenizer: The model's.
        prompt: What was asked, for the opening tag that a chat template may have written.
        ends: Tokens that end a turn, which are no part of the answer.
    """
    own = list(ids)
    while own and own[-1] in ends:
        own.pop()
    opened = opened_by_prompt(prompt)
    text = opened + decoded(own, tokenizer)
    parsed, steps, starts = parse(text), numbered_steps(text), step_starts(text)
    if len(steps) == 1 and not is_labelled(text):
        steps, starts = _prose(text, steps, starts)
    numbers = [number for _, number in starts]
    if not steps:  # nothing but an answer, or the frame of an empty thought
        numbers = [1] * len(starts)
    places = token_places(own, tokenizer, [start - len(opened) for start, _ in starts])
    step_ids: list[int] = []
    for number, begin, end in zip(numbers, places, [*places[1:], len(ids)], strict=True):
        step_ids += [number] * (end - begin)
    has_thought = bool(split_completion(text)[1]) or not closes(text)
    return WrittenChain(steps, step_ids, parsed.answer, has_thought, parsed.closed)


def _prose(text: str, steps: list[str], starts: list[tuple[int, int]]) -> tuple[list[str], list[tuple[int, int]]]:
    """The steps of a thought of one step, cut where prose is cut; as it is if it cannot be cut."""
    head, tag, _ = split_completion(text)
    begin = head.find(OPEN_TAG) + len(OPEN_TAG) if OPEN_TAG in head else 0
    pieces = segment_chain(head[begin:])
    if len(pieces) < 2:
        return steps, starts
    cuts, place = [(0, 1)], begin + len(pieces[0])
    for number, piece in enumerate(pieces[1:], start=2):
        cuts.append((place, number))
        place += len(piece)
    if tag:
        cuts.append((starts[-1][0], len(pieces) + 1))
    return [strip_numbering(piece.strip()) for piece in pieces], cuts
