"""Chains too long for one example, cut between steps into pieces that overlap."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .render import OPEN_TAG
from .spans import ANSWER, IGNORE_INDEX, PROMPT, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class StepTooLong(ValueError):
    """A step that does not fit into `max_length` with its prompt and its overlap."""


def split_record(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    overlap_steps: int = 1,
    instructions: Mapping[str, str] | None = None,
) -> list[dict[str, list[int]]]:
    """`encode` of a record, cut by `split_encoded` into pieces of at most `max_length` tokens."""
    return split_encoded(encode(record, tokenizer, instructions=instructions), tokenizer, max_length, overlap_steps)


def split_encoded(
    example: Mapping[str, Sequence[int]], tokenizer: "PreTrainedTokenizerBase", max_length: int, overlap_steps: int = 1
) -> list[dict[str, list[int]]]:
    """Cut an encoded record between its steps.

    Every piece has the whole prompt, the opening of the thought (if the prompt has not written it) and as many whole
    consecutive steps as fit. A piece that does not begin with the first step has the `overlap_steps` steps before it
    as context: no targets, so that every token of the completion is a target of exactly one piece. Steps keep their
    numbers, in the text and in `step_ids`. The last step is never separated from `</think>`, the answer and
    the end-of-turn token, which only the last piece has. Nothing is tokenised again: the targets of all pieces, one
    after the other, are those of the whole example.

    Args:
        example: What `encode` returns; one that fits comes back as it is.
        tokenizer: The one it was encoded with.
        max_length: Longest piece, in tokens.
        overlap_steps: Context steps of every piece but the first, fewer where there are fewer.

    Returns:
        Examples with the four columns of `encode`. The repeated opening counts as prompt (segment and step 0).

    Raises:
        StepTooLong: if a step does not fit with its prompt and its overlap.
        ValueError: if `overlap_steps` is negative.
    """
    if overlap_steps < 0:
        raise ValueError(f"overlap_steps is {overlap_steps}; it must not be negative.")
    columns = {name: list(example[name]) for name in ("input_ids", "labels", "segment_ids", "step_ids")}
    numbers = columns["step_ids"]
    if len(numbers) <= max_length:
        return [columns]
    prompt = next((place for place, number in enumerate(numbers) if number), len(numbers))
    if columns["segment_ids"][prompt : prompt + 1] in ([], [ANSWER]):
        raise StepTooLong(f"The example has {len(numbers)} tokens and no steps to cut between.")
    opening = prompt + _opening_length(columns["input_ids"][prompt:], tokenizer)
    # where each step begins; the answer stays with the last step, to which the closing tag belongs
    starts = [place for place in range(prompt, len(numbers)) if numbers[place] != numbers[place - 1]][:-1]
    ends = [*starts[1:], len(numbers)]
    pieces, first = [], 0
    while first < len(starts):
        context = max(first - overlap_steps, 0)
        head = prompt if context == 0 else opening
        fitting = [i for i in range(first, len(ends)) if head + ends[i] - starts[context] <= max_length]
        if not fitting:
            raise StepTooLong(
                f"Step {numbers[starts[first]]} has {ends[first] - starts[first]} tokens and does not fit into "
                f"{max_length} with {head} of the prompt and {starts[first] - starts[context]} of the steps before it."
            )
        last = fitting[-1]
        pieces.append(_piece(columns, prompt, head, starts[context], starts[first], ends[last]))
        first = last + 1
    return pieces


def _opening_length(completion: list[int], tokenizer: "PreTrainedTokenizerBase") -> int:
    """Tokens in front of the first step's label: `<think>` and its line break, where they are tokens of their own."""
    length = 0
    for end in range(1, len(completion) + 1):
        text = str(tokenizer.decode(completion[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        if not f"{OPEN_TAG}\n".startswith(text.lstrip()):
            break
        length = end
    return length


def _piece(
    columns: Mapping[str, list[int]], prompt: int, head: int, context: int, first: int, end: int
) -> dict[str, list[int]]:
    """The first `head` tokens, and those from `context` to `end`, of which the ones from `first` on are targets."""
    piece = {name: values[:head] + values[context:end] for name, values in columns.items()}
    known = head + first - context
    if context > prompt:
        piece["segment_ids"][prompt:head] = [PROMPT] * (head - prompt)
        piece["step_ids"][prompt:head] = [0] * (head - prompt)
    if first > prompt:
        piece["labels"][:known] = [IGNORE_INDEX] * known
    return piece
