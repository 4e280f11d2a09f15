"""How far the KL from a top-k cache is from the KL over the whole vocabulary, on some records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from hf_reason.losses import LMHead, TopKTargets, chunked_divergence

from .cache_settings import CacheSettings
from .live import LiveTeacher
from .top_k import sampling_starts, top_k_of_states

_MEASURED = 256  # records on which the error is measured


def kl_error(
    rows: Any,
    teacher: LiveTeacher,
    student: LiveTeacher | None,
    settings: CacheSettings,
    batches: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]],
    batch_size: int,
) -> dict[str, float]:
    """See `CacheBuilder.error`.

    Args:
        rows: Encoded records.
        teacher: The teacher.
        student: What it is compared with; `None`: itself at twice its temperature.
        settings: Of the cache.
        batches: Makes a batch of some rows.
        batch_size: Rows of a batch.
    """
    sums, tokens, records, mass = np.zeros(2), 0, 0, 0.0
    # spread over the split, whose first records may all be of one source
    chosen = np.unique(np.linspace(0, len(rows) - 1, _MEASURED).astype(int)).tolist()
    for first in range(0, len(chosen), batch_size):
        examples = [rows[row] for row in chosen[first : first + batch_size]]
        batch = batches(examples)
        with teacher.targets(batch, path_consistency=False) as found, torch.no_grad():
            live: Any = found.divergence
            starts = torch.cat(sampling_starts(examples))
            ids, log_probs, log_tail, *tail = top_k_of_states(live.hidden_states, live.head, settings, starts)
            stored = TopKTargets(ids, log_probs.half(), log_tail.half())
            if settings.tail_samples:
                stored = stored._replace(tail_ids=tail[0], tail_log_prob=tail[1].half())
            mass += float(log_probs.exp().sum())
            if student is None:
                _add(sums, live.hidden_states, _unsure(live.head), (live, stored), batch, settings)
            else:
                with student.targets(batch, path_consistency=False) as other:
                    side: Any = other.divergence
                    _add(sums, side.hidden_states, side.head, (live, stored), batch, settings)
            tokens, records = tokens + len(ids), records + len(examples)
    kl, cached = sums / tokens
    return {
        "kl": kl,
        "kl_cache": cached,
        "relative_error": abs(kl - cached) / max(kl, 1e-12),
        "mass": mass / tokens,
        "records": records,
    }


def _add(
    sums: np.ndarray, states: Any, head: LMHead, sides: tuple[Any, Any], batch: Any, settings: CacheSettings
) -> None:
    """Add the batch's two divergences: from the whole vocabulary, and from what a cache keeps of it."""
    labels = batch["labels"][:, 1:][batch["labels"][:, 1:] != -100].to(states.device)
    for place, targets in enumerate(sides):
        output = chunked_divergence(
            states, head, targets, labels, temperature=settings.temperature, vocab_size=settings.vocab_size
        )
        sums[place] += float(output.divergence.sum())


def _unsure(head: LMHead) -> LMHead:
    return head._replace(logit_scale=head.logit_scale / 2)
