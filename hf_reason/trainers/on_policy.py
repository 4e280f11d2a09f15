"""On-policy batches: the student writes the completions, the teacher judges them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from hf_reason.generation.batching import pad_left
from hf_reason.generation.limits import check_prompts
from hf_reason.generation.settings import generation_config, only_asked_for
from hf_reason.text.spans import IGNORE_INDEX, PROMPT, completion_spans

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# The mark of such a batch: its tokens are nobody's truth, so they have no cross-entropy.
ON_POLICY = "on_policy"


def prompts_of(batch: Mapping[str, torch.Tensor]) -> list[list[int]]:
    """The prompt of each row of a padded batch: what precedes the first step (without span columns, target)."""
    found = []
    # a piece of a split chain has steps that are no targets; the student writes its own from the first on
    written = batch["segment_ids"] != PROMPT if "segment_ids" in batch else batch["labels"] != IGNORE_INDEX
    for ids, inside in zip(batch["input_ids"], written, strict=True):
        targets = inside.nonzero()
        found.append(ids[: int(targets[0]) if len(targets) else len(ids)].tolist())
    return found


def own_completions(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    tokenizer: "PreTrainedTokenizerBase",
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    *,
    max_new_tokens: int,
    temperature: float,
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

    Returns:
        A batch on the same device, marked `on_policy`; an unfinished completion has no end-of-turn token.
    """
    device = batch["input_ids"].device
    prompts = prompts_of(batch)
    config = generation_config(model, tokenizer, max_new_tokens=max_new_tokens, temperature=temperature)
    check_prompts(model, prompts, max_new_tokens)
    ids, mask = pad_left(prompts, config.pad_token_id)
    with torch.no_grad(), only_asked_for(model):
        written = model.generate(ids.to(device), attention_mask=mask.to(device), generation_config=config)
    stops, longest = set(config.eos_token_id or ()), ids.shape[1]
    examples = []
    for prompt, row in zip(prompts, written[:, longest:].tolist(), strict=True):
        stop = next((place for place, token in enumerate(row) if token in stops), len(row) - 1)
        completion = row[: stop + 1]
        spans = completion_spans(completion, tokenizer)
        examples.append(
            {
                "input_ids": prompt + completion,
                "labels": [IGNORE_INDEX] * len(prompt) + completion,
                "segment_ids": [PROMPT] * len(prompt) + spans["segment_ids"],
                "step_ids": [0] * len(prompt) + spans["step_ids"],
            }
        )
    made = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in collate(examples).items()
    }
    return {**made, ON_POLICY: True}
