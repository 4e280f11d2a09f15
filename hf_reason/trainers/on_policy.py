"""On-policy batches: the student writes the completions, the teacher judges them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from hf_reason.generation.batching import pad_left
from hf_reason.generation.limits import check_prompts
from hf_reason.generation.settings import generation_config, only_asked_for
from hf_reason.generation.step_limit import StepLimit
from hf_reason.text.render import opened_by_prompt
from hf_reason.text.spans import DOMAIN_IDS, IGNORE_INDEX, PROMPT, THOUGHT, completion_spans, decoded
from hf_reason.text.written import read_chain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The mark of such a batch: its tokens are nobody's truth, so they have no cross-entropy.
ON_POLICY = "on_policy"
_PROMPT_TAIL = 16  # tokens in which the prompt's opening tag is looked for

Note = Callable[[dict[str, tuple[float, float]]], None]


def prompts_of(batch: Mapping[str, torch.Tensor]) -> list[list[int]]:
    """The prompt of each row of a padded batch: what precedes the first step (without span columns, target)."""
    found = []
    # a piece of a split chain has steps that are no targets; the student writes its own from the first on
    written = batch["segment_ids"] != PROMPT if "segment_ids" in batch else batch["labels"] != IGNORE_INDEX
    for ids, inside in zip(batch["input_ids"], written, strict=True):
        targets = inside.nonzero()
        found.append(ids[: int(targets[0]) if len(targets) else len(ids)].tolist())
    return found


def step_limits(batch: Mapping[str, torch.Tensor], first_steps: float | None) -> list[int | None]:
    """How many steps each row's completion may have; `None`: it is written to its end.

    Args:
        batch: A padded batch.
        first_steps: So many; below 1 that fraction of the steps of the row's record, rounded up.

    Raises:
        ValueError: if a fraction is asked for and the rows have no steps.
    """
    rows = len(batch["input_ids"])
    if first_steps is None:
        return [None] * rows
    if "segment_ids" not in batch or "step_ids" not in batch:
        if first_steps < 1:
            raise ValueError(
                f"first_steps={first_steps:g} is a fraction of the steps of a record, and the data set has none. Give "
                "a number of steps, or records (hf-reason prepare)."
            )
        return [int(first_steps)] * rows
    limits: list[int | None] = []
    for count in (batch["step_ids"] * (batch["segment_ids"] == THOUGHT)).amax(dim=1).tolist():
        if count == 0:
            limits.append(None)  # a record without a thought
        elif first_steps < 1:
            limits.append(max(1, math.ceil(first_steps * count - 1e-9)))
        else:
            limits.append(int(first_steps))
    return limits


def own_completions(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    tokenizer: "PreTrainedTokenizerBase",
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    max_new_tokens: int,
    temperature: float,
    first_steps: float | None = None,
    note: Note | None = None,
) -> dict[str, Any]:
    """The batch with completions that the model samples for its prompts.

    Args:
        model: Unwrapped, ready to generate.
        batch: A padded batch of records.
        tokenizer: The model's.
        collate: Makes a batch of examples.
        max_new_tokens: Longest completion.
        temperature: Of the sampling, from the whole distribution: the divergence is estimated under it, so nothing of
            the model's own generation config holds but its stop tokens.
        first_steps: Only so many steps of each thought; see `step_limits`.
        note: Called with what is to be logged of the completions: name -> part and whole.

    Returns:
        A batch on the same device, marked `on_policy`; an unfinished completion has no end-of-turn token.

    Raises:
        ValueError: if the prompts and the completions do not fit the model, or see `step_limits`.
    """
    device = batch["input_ids"].device
    prompts = prompts_of(batch)
    config = generation_config(model, tokenizer, max_new_tokens=max_new_tokens, temperature=temperature)
    check_prompts(model, prompts, max_new_tokens)
    ids, mask = pad_left(prompts, config.pad_token_id)
    stops, longest = set(config.eos_token_id or ()), ids.shape[1]
    limit = StepLimit(tokenizer, prompts, step_limits(batch, first_steps), sorted(stops), longest)
    criteria = {} if first_steps is None else {"stopping_criteria": [limit]}
    begin = time.perf_counter()
    with torch.no_grad(), only_asked_for(model):
        written = model.generate(ids.to(device), attention_mask=mask.to(device), generation_config=config, **criteria)
    rows = written[:, longest:].tolist()
    seconds = time.perf_counter() - begin
    examples, completions = [], []
    for number, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        stop = next((place for place, token in enumerate(row) if token in stops), len(row) - 1)
        kept = limit.kept[number]
        completion = row[: stop + 1 if kept is None else kept]
        completions.append(completion)
        opened = opened_by_prompt(decoded(prompt[-_PROMPT_TAIL:], tokenizer))
        spans = completion_spans(completion, tokenizer, opened)
        example = {
            "input_ids": prompt + completion,
            "labels": [IGNORE_INDEX] * len(prompt) + completion,
            "segment_ids": [PROMPT] * len(prompt) + spans["segment_ids"],
            "step_ids": [0] * len(prompt) + spans["step_ids"],
        }
        if DOMAIN_IDS in batch:
            example[DOMAIN_IDS] = [int(batch[DOMAIN_IDS][number, 0])] * len(example["input_ids"])
        examples.append(example)
    if note is not None:
        note(_figures(tokenizer, prompts, completions, limit, stops))
        note(_savings(batch, prompts, rows, limit, seconds, first_steps is not None))
    made = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in collate(examples).items()
    }
    return {**made, ON_POLICY: True}


def _figures(
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
    limit: StepLimit,
    stops: set[int],
) -> dict[str, tuple[float, float]]:
    """Length, clipping and closing of completions, under the names of TRL's GRPO and of `StepGRPOTrainer`."""
    count, closed, clipped = len(completions), 0, 0
    for prompt, completion, kept in zip(prompts, completions, limit.kept, strict=True):
        chain = read_chain(completion, tokenizer, decoded(prompt[-_PROMPT_TAIL:], tokenizer), sorted(stops))
        closed += chain.has_thought and chain.closed
        clipped += kept is None and (not completion or completion[-1] not in stops)
    return {
        "completions/mean_length": (sum(map(len, completions)), count),
        "completions/clipped_ratio": (clipped, count),
        "thoughts/closed": (closed, count),
    }


def _savings(
    batch: Mapping[str, torch.Tensor],
    prompts: Sequence[list[int]],
    rows: Sequence[list[int]],
    limit: StepLimit,
    seconds: float,
    limited: bool,
) -> dict[str, tuple[float, float]]:
    """Seconds of sampling, and what `first_steps` saved of them, measured by the records' own completions."""
    found = {"sampling/seconds": (seconds, 1.0)}
    if not limited:
        return found
    lengths = (batch["attention_mask"].sum(dim=1) if "attention_mask" in batch else torch.tensor([])).tolist()
    own = [max(int(length) - len(prompt), 0) for length, prompt in zip(lengths, prompts, strict=False)]
    stopped = [(whole, kept) for whole, kept in zip(own, limit.kept, strict=False) if kept is not None]
    steps = max(map(len, rows), default=0)  # forward passes, of which the longest row decides
    further = max(max((whole for whole, _ in stopped), default=0) - steps, 0)
    return found | {
        "first_steps/stopped_ratio": (len(stopped), len(rows)),
        "first_steps/tokens_saved": (sum(max(whole - kept, 0) for whole, kept in stopped), len(rows)),
        "first_steps/seconds_saved": (further * seconds / max(steps, 1), 1.0),
    }
