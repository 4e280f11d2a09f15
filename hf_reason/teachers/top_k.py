"""The k most likely tokens of a distribution and the mass of the rest: what a cache and a server give of a teacher."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from hf_reason.losses import LMHead
from hf_reason.losses.head import head_logits

from .cache_format import tokens_hash
from .cache_settings import CacheSettings

_CHUNK = 2**24  # logits at a time


class TopK(NamedTuple):
    """What a teacher says of one sequence of n tokens; row j is about the token after token j.

    `ids` `(n - 1, k)` int64 are the k most likely tokens, most likely first, `log_probs` `(n - 1, k)` float32 theirs,
    and `log_tail` `(n - 1,)` float32 the logarithm of the mass of all others, `-inf` where there is none.
    """

    ids: np.ndarray
    log_probs: np.ndarray
    log_tail: np.ndarray


def log_tail(log_probs: np.ndarray) -> np.ndarray:
    """`log(1 - sum(exp(log_probs)))` of each row; `-inf` where rounding makes the sum 1 or more."""
    with np.errstate(divide="ignore"):
        mass = np.minimum(np.log(np.exp(log_probs).sum(axis=-1)), 0.0)
        # each of the two forms is exact where the other one cancels
        return np.where(mass > -math.log(2), np.log(-np.expm1(mass)), np.log1p(-np.exp(mass)))


def sampling_starts(examples: Sequence[Mapping[str, Any]]) -> list[torch.Tensor]:
    """Where the sampling of each target's tail starts, in [0, 1); the record alone decides, whatever the batches."""
    starts = []
    for example in examples:
        key = tokens_hash(example["input_ids"], example["labels"])
        count = sum(label != -100 for label in example["labels"][1:])
        starts.append(torch.from_numpy(np.random.default_rng(list(key)).random(count)))
    return starts


def top_k_of_states(
    states: torch.Tensor, head: LMHead, settings: CacheSettings, starts: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """What a cache keeps of each position.

    The samples of the tail are systematic: its mass, laid out in the order of the ids, is met at equal distances from
    a random start on, which varies less than independent draws do.

    Args:
        states: `(positions, width)`.
        head: The teacher's.
        settings: top_k, the number of samples, temperature, vocabulary.
        starts: `(positions,)` in [0, 1).

    Returns:
        The k most likely ids `(positions, k)` and their log-probabilities, the log of the other mass `(positions,)`,
        the sampled ids `(positions, tail_samples)` and the mean of their log-probabilities `(positions,)`.
    """
    found, size = [], max(1, _CHUNK // head.weight.shape[0])
    for chunk, start in zip(states.split(size), starts.to(states.device).split(size), strict=True):
        logits = head_logits(chunk, head)[:, : settings.vocab_size] / settings.temperature
        log_probs = logits.log_softmax(dim=1)
        best, ids = log_probs.topk(settings.top_k, dim=1)
        rest = log_probs.scatter(1, ids, -torch.inf)
        tail = torch.logsumexp(rest, dim=1)
        picked = systematic(rest - tail.unsqueeze(1), start, settings.tail_samples)
        # without samples the mean of none; without a tail any token, and its weight is 0
        mean = log_probs.gather(1, picked).clamp(min=-1e4).sum(dim=1) / max(settings.tail_samples, 1)
        found.append((ids, best, tail, picked, mean))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def systematic(log_probs: torch.Tensor, start: torch.Tensor, samples: int) -> torch.Tensor:
    """Ids `(positions, samples)` by systematic sampling from log-probabilities `(positions, ids)`."""
    mass = (
        log_probs.exp()
        .nan_to_num_(0.0)
        .cumsum(dim=1, dtype=torch.float32 if log_probs.device.type == "mps" else torch.float64)
    )
    points = (start.to(mass.dtype).unsqueeze(1) + torch.arange(samples, device=mass.device)) / max(samples, 1)
    # the total may be a rounding error below 1, and an id without mass must not be met
    return torch.searchsorted(mass, points * mass[:, -1:], right=True).clamp_(max=log_probs.shape[1] - 1)
