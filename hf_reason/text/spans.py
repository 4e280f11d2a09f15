"""Which token belongs to which step: the two columns that weights, masks, metrics and losses read."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hf_reason.data.images import references_in

from .multimodal import is_processor, prompt_ids, refuse_marks, tokenizer_in
from .render import build_prompt, closes, completion_pieces, parse, render, step_starts
from .tokens import end_token_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT, THOUGHT, ANSWER = 0, 1, 2
SPAN_COLUMNS = ("segment_ids", "step_ids")
# Columns that a trainer may add: the record's domain, its task, and the tokens that a target is compared with.
DOMAIN_IDS, TASK_IDS, CHOICE_IDS = "domain_ids", "task_ids", "choice_ids"
ADDED_COLUMNS = (DOMAIN_IDS, TASK_IDS, CHOICE_IDS)
IGNORE_INDEX = -100


def prompt_token_ids(prompt: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Tokens of a rendered prompt. A chat template writes its own BOS; without one the tokenizer's is added."""
    ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    if not tokenizer.chat_template and getattr(tokenizer, "add_bos_token", False):
        ids.insert(0, tokenizer.bos_token_id)
    return ids


def encode_prompt(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    instructions: Mapping[str, str] | None = None,
    thinking: bool = True,
) -> list[int]:
    """The prompt's token ids, exactly those that `encode` puts before the completion."""
    prompt = build_prompt(record, tokenizer, instructions=instructions, thinking=thinking)
    return record_prompt_ids(record, prompt, tokenizer)


def record_prompt_ids(record: Mapping[str, Any], prompt: str, reader: Any) -> list[int]:
    """Tokens of a record's rendered prompt, those of its images among them.

    Args:
        record: The record.
        prompt: What `build_prompt` has written for it.
        reader: Tokenizer or, for a record with images, processor.

    Raises:
        ValueError: if an image cannot be read, or a text says the model's own mark of an image.
    """
    if not is_processor(reader):
        return prompt_token_ids(prompt, reader)
    if references_in(record):
        return prompt_ids(reader, prompt, record)
    refuse_marks(reader, [prompt])
    return prompt_token_ids(prompt, tokenizer_in(reader))


def encode(
    record: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase", *, instructions: Mapping[str, str] | None = None
) -> dict[str, list[int]]:
    """Tokenise a record once and say for each token where it belongs.

    Prompt and completion are tokenised apart, as they are at generation, so no token spans both. The step of a
    token is read from its character offset in the completion; a token that straddles two steps (a merged line
    break) belongs to the one it starts in. The end-of-turn id closes the completion.

    Args:
        record: A record; without steps it is a non-thinking example.
        tokenizer: A fast tokenizer (offsets are needed), or a processor with one, which records with images need: all
            tokens of an image belong to the prompt.
        instructions: Instruction of each domain.

    Returns:
        Four lists of one length: `input_ids`; `labels` (-100 on the prompt); `segment_ids` (0 prompt, 1 thought,
        2 answer); `step_ids` (0 prompt, 1..n the step, n + 1 the answer).

    Raises:
        ValueError: if the tokenizer gives no offsets, or an image cannot be read.
    """
    reader, tokenizer = tokenizer, tokenizer_in(tokenizer)
    if not tokenizer.is_fast:
        raise ValueError(f"{type(tokenizer).__name__} gives no character offsets. Load the fast tokenizer.")
    prompt = build_prompt(record, reader, instructions=instructions, thinking=bool(record.get("steps")))
    pieces = completion_pieces(record, prompt)
    if is_processor(reader):
        refuse_marks(reader, [text for text, _ in pieces])
    before = record_prompt_ids(record, prompt, reader)
    completion = tokenizer("".join(text for text, _ in pieces), add_special_tokens=False, return_offsets_mapping=True)
    starts = list(itertools.accumulate((len(text) for text, _ in pieces[:-1]), initial=0))
    numbers = [number for _, number in pieces]
    steps = [numbers[max(bisect.bisect_right(starts, start) - 1, 0)] for start, _ in completion["offset_mapping"]]
    # offsets of control-like characters can step back by one; a token never belongs before its predecessor
    steps = list(itertools.accumulate(steps, max)) + [numbers[-1]]
    completion_ids = [*completion["input_ids"], end_token_id(tokenizer)]
    answer = numbers[-1]
    segments = [ANSWER if step == answer else THOUGHT for step in steps]
    return {
        "input_ids": before + completion_ids,
        "labels": [IGNORE_INDEX] * len(before) + completion_ids,
        "segment_ids": [PROMPT] * len(before) + segments,
        "step_ids": [0] * len(before) + steps,
    }


def completion_spans(ids: list[int], tokenizer: "PreTrainedTokenizerBase", opened: str = "") -> dict[str, list[int]]:
    """`segment_ids` and `step_ids` of a completion that a model wrote, by the rule of `encode`.

    Args:
        ids: The completion's tokens, the end-of-turn token (if it was written) included.
        tokenizer: The model's.
        opened: What the prompt has opened of the thought (`opened_by_prompt`): without it a thought that was cut
            before its end looks like an answer.
    """
    text = opened + decoded(ids, tokenizer)
    starts = step_starts(text)
    places = token_places(ids, tokenizer, [start - len(opened) for start, _ in starts])
    answer = starts[-1][1] if closes(text) else starts[-1][1] + 1
    ends = [*places[1:], len(ids)]
    found = [n for (_, n), begin, end in zip(starts, places, ends, strict=True) for _ in range(begin, end)]
    return {"segment_ids": [ANSWER if step == answer else THOUGHT for step in found], "step_ids": found}


def decoded(ids: Sequence[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    """The text of tokens. Special tokens stay: some vocabularies mark `<think>` as special."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def token_places(ids: Sequence[int], tokenizer: "PreTrainedTokenizerBase", starts: Sequence[int]) -> list[int]:
    """For each character of the decoded tokens (in order, the first at or before 0) the first token that begins there
    or later.

    A token that straddles two steps belongs to the one it begins in. Found by bisection over the lengths of decoded
    prefixes, which grow with the tokens: a prefix that ends inside a character decodes to a placeholder, which is no
    longer than the character.
    """
    places: list[int] = [0]
    for start in starts[1:]:
        prefixes = range(len(ids) + 1)
        low = bisect.bisect_left(prefixes, start, lo=places[-1], key=lambda end: len(decoded(ids[:end], tokenizer)))
        places.append(min(low, len(ids)))
    return places


_SAMPLE = {
    "context": "小明有3个苹果,又买来4个,吃掉2个。还剩几个?",
    "task": "",
    "steps": ["买来后:3+4=7个", "吃掉后:7-2=5个"],
    "answer": "5个",
    "domain": "math",
}


def check_round_trip(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Send a two-step sample through the tokenizer and back; refuse a template or vocabulary that loses parts of it.

    Raises:
        ValueError: if the problem is missing from the prompt, if the thought, its tags or the answer do not come
            back, or if the completion does not end in the end-of-turn token. The message says what was lost.
    """
    # Both modes: a hybrid template may write them differently.
    for sample in (_SAMPLE, {**_SAMPLE, "steps": []}):
        text, encoded = render(sample, tokenizer), encode(sample, tokenizer)
        if str(sample["context"]) not in text["prompt"]:
            raise ValueError(
                "The chat template drops the user's turn: the problem is not in the prompt it writes. "
                "Set `tokenizer.chat_template` (or `chat_template_path`) to a template that keeps it."
            )
        ids = [token for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label >= 0]
        if ids[-1] != end_token_id(tokenizer):
            raise ValueError("The completion does not end in the end-of-turn token.")
        decoded = str(tokenizer.decode(ids[:-1], skip_special_tokens=False, clean_up_tokenization_spaces=False))
        closed_by_prompt = not sample["steps"] and text["prompt"].rstrip().endswith("</think>")
        parsed = parse("</think>" + decoded if closed_by_prompt else decoded)
        if (parsed.steps, parsed.answer, parsed.closed) != (sample["steps"], sample["answer"], True):
            raise ValueError(
                f"The tokenizer does not give back a sample with {len(sample['steps'])} steps: "
                f"wrote {text['completion']!r}, got {decoded!r}. "
                "A vocabulary without <think>, </think> or Chinese characters maps them to <unk>; add the missing "
                "tokens to the tokenizer (and resize the embeddings), or train a tokenizer on your data."
            )
