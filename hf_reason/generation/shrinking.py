"""Rows that have ended leave the batch: `generate` would carry them along, padded, until the longest one ends.

`generate` works on a batch that does not change. So it is stopped whenever a part of its rows has ended, and called
again for the rest with what the cache has of it: nothing is read twice.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation import StoppingCriteriaList

from hf_reason.models.lm_head import causal_model

from .settings import changed

# A call of `generate` costs about as much as a few tokens of a small batch.
LEAST_ROWS, PART = 4, 4
# Settings that count from the beginning of a call, or keep a state of their own for each row.
_OF_A_CALL = (
    "min_new_tokens",
    "min_length",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "begin_suppress_tokens",
    "watermarking_config",
    "guidance_scale",
    "cache_implementation",
    "prefill_chunk_size",
)


class _Pause(StoppingCriteria):
    """Ends the call once a part of the rows is over; with the criteria of the batch's steering, if it has any."""

    def __init__(
        self, stops: Sequence[int], rows: int, inner: StoppingCriteriaList, device: torch.device, pauses: bool
    ) -> None:
        self.stops, self.inner = torch.tensor(stops, device=device, dtype=torch.long), inner
        self.over = torch.zeros(rows, dtype=torch.bool, device=device)
        self.enough = max(LEAST_ROWS, rows // PART) if pauses else rows

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.BoolTensor:
        self.over |= torch.isin(input_ids[:, -1], self.stops)
        if self.inner:
            self.over |= self.inner(input_ids, scores, **kwargs)
        if int(self.over.sum()) >= self.enough:
            return torch.ones_like(self.over)  # type: ignore[return-value]
        return self.over.clone()  # type: ignore[return-value]


def can_shrink(model: Any, config: GenerationConfig) -> bool:
    """Whether ended rows may leave: a decoder-only model of transformers with its usual cache, and plain decoding.

    A LoAR, a StepReasoner and a model with vision (its positions) know more of a row than its keys and values; their
    batches stay as they are.
    """
    inner = causal_model(model)
    plain = type(inner).__module__.startswith("transformers.") and getattr(inner, "loar", None) is None
    plain = plain and getattr(getattr(inner, "config", None), "vision_config", None) is None
    unset = all(getattr(config, name, None) in (None, 0, 1.0, False) for name in _OF_A_CALL)
    return plain and unset and config.use_cache is not False and (config.num_beams or 1) == 1


def generate_shrinking(
    model: Any,
    ids: torch.Tensor,
    mask: torch.Tensor,
    config: GenerationConfig,
    stops: Sequence[int],
    steering: Any = None,
) -> list[list[int]]:
    """`model.generate` for a batch whose ended rows leave it.

    Args:
        model: One that `can_shrink`.
        ids: Prompts [rows, tokens], padded in front.
        mask: 1 where there is no padding, [rows, tokens].
        config: With `max_new_tokens`.
        stops: Ids that end a row.
        steering: What steers the batch, with `kept(rows)` for the rest of its rows; or `None`.

    Returns:
        New tokens of each row, with what `generate` puts after its end.
    """
    written: list[list[int]] = [[] for _ in ids]
    alive, left, past, pauses = list(range(len(ids))), int(config.max_new_tokens or 1), None, True
    stops = [token for token in stops if token is not None]
    while True:
        more = dict(steering.generate_kwargs()) if steering else {}
        pause = _Pause(stops, len(alive), more.pop("stopping_criteria", StoppingCriteriaList()), ids.device, pauses)
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=past,
            generation_config=changed(config, max_new_tokens=left, return_dict_in_generate=True),
            stopping_criteria=StoppingCriteriaList([pause]),
            **more,
        )
        past, width = found.past_key_values, ids.shape[1]
        new = found.sequences[:, width:]
        for row, tokens in zip(alive, new.tolist(), strict=True):
            written[row] += tokens
        left -= new.shape[1]
        rest = (~pause.over).nonzero().flatten()
        if left <= 0 or not len(rest):
            return written
        if _has_rows(past):
            past.batch_select_indices(rest)
        else:  # the state of a linear attention, for one: the rest is read again, once
            past, pauses = None, False
        ids = found.sequences[rest]
        mask = torch.cat([mask, mask.new_ones(len(mask), new.shape[1])], dim=1)[rest]
        alive = [alive[place] for place in rest.tolist()]
        steering = steering.kept(rest.tolist()) if steering else None


def _has_rows(past: Any) -> bool:
    """Whether rows can be taken out of a cache."""
    known = (DynamicLayer, DynamicSlidingWindowLayer)
    return type(past) is DynamicCache and all(type(layer) in known for layer in past.layers)
