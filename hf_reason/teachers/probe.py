"""Whether a served teacher can teach: that it repeats itself, and that it is the model that was meant."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .errors import TeacherError
from .top_k import TopK, log_tail

_NO_MASS = math.log(np.finfo(np.float32).tiny)  # stands for a log-probability of -inf, which would make a KL infinite


def probe(
    ask: Callable[[Sequence[Sequence[int]]], list[TopK]],
    url: str,
    sequences: Sequence[Sequence[int]],
    reference: Callable[[Sequence[Sequence[int]]], list[np.ndarray]] | None = None,
    tolerance: float = 0.02,
) -> dict[str, float]:
    """See `ServedTeacher.probe`; `ask` is its `distributions`, `url` the server's for messages."""
    if not any(len(sequence) > 1 for sequence in sequences):
        raise TeacherError("A probe needs a sequence of at least two tokens.")
    first = ask(sequences)
    # the other way round: what a server reads from its cache depends on what it was asked before
    second = ask(sequences[::-1])[::-1]
    repeat, worst = _mean([_kl(a, *_of_same_ids(a, b)) for a, b in zip(first, second, strict=True)])
    if not repeat <= tolerance:
        raise TeacherError(
            f"{url} answers the same requests differently, by {repeat:.3g} nats a position (most {worst}). "
            "Start the server with --no-enable-prefix-caching, without routing over several models."
        )
    if reference is None:
        return {"repeat": repeat}
    local = reference(sequences)
    if len(local) != len(first):
        raise TeacherError(f"The reference gives {len(local)} arrays for {len(first)} sequences.")
    kls, largest = [], 0.0
    for i, (served, full) in enumerate(zip(first, local, strict=True)):
        size = served.ids.max(initial=0) + 1
        if full.ndim != 2 or len(full) != len(served.ids) or full.shape[1] < size:
            raise TeacherError(
                f"The reference's shape for sequence {i} is {full.shape}; the server has {len(served.ids)} "
                f"positions and ids up to {size - 1}. Is it the same model?"
            )
        same = np.take_along_axis(full, served.ids, axis=1).astype(np.float64)
        tail = _local_tail(full, served.ids)
        mass = np.exp(same).sum(axis=1) + np.exp(tail)
        # logits would make the KL negative, which no tolerance finds; half precision is off by some percent
        if not (np.abs(mass - 1) < 0.05).all():
            raise TeacherError(f"The reference gives no log-probabilities for sequence {i}: they sum to no 1.")
        kls.append(_kl(served, same, tail))
        gaps = np.abs(served.log_probs - same)[served.log_probs > math.log(0.01)]
        largest = max(largest, float(gaps.max(initial=0.0)))
    kl, worst = _mean(kls)
    if not kl <= tolerance:
        raise TeacherError(
            f"The model at {url} is not the local one: KL(server || local) is {kl:.3g} nats a position (most "
            f"{worst}), more than {tolerance}. Check that the server has the same weights without quantisation, "
            "adds no BOS or chat template, and has no logits processors or other sampling settings."
        )
    return {"kl": kl, "largest": largest, "repeat": repeat}


def _local_tail(full: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The logarithm of the mass of all tokens but `ids`, row by row: a whole copy could be gigabytes."""
    tail = np.empty(len(full))
    for j, row in enumerate(full):
        rest = np.delete(row, ids[j])
        with np.errstate(divide="ignore"):
            tail[j] = np.log(np.exp(rest, dtype=np.float64).sum())
    return tail


def _of_same_ids(a: TopK, b: TopK) -> tuple[np.ndarray, np.ndarray]:
    """`b`'s log-probabilities of `a`'s ids and its tail; one that is not in `b` gets the most it can have."""
    match = a.ids[:, :, None] == b.ids[:, None, :]
    found = np.take_along_axis(b.log_probs, match.argmax(axis=2), axis=1)
    same = np.where(match.any(axis=2), found, b.log_probs[:, -1:]).astype(np.float64)
    return same, log_tail(same)


def _kl(p: TopK, q: np.ndarray, q_tail: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row over p's k tokens and the tail, in nats."""
    of_p = np.concatenate([p.log_probs, p.log_tail[:, None]], axis=1).astype(np.float64)
    of_q = np.concatenate([q, q_tail[:, None]], axis=1)
    of_p, of_q = np.maximum(of_p, _NO_MASS), np.maximum(of_q, _NO_MASS)
    # rounded log-probabilities can make it a little negative
    return np.maximum((np.exp(of_p) * (of_p - of_q)).sum(axis=1), 0.0)


def _mean(kls: list[np.ndarray]) -> tuple[float, str]:
    """The mean over all positions, and where the largest one is."""
    value, i, j = max((float(row.max()), i, int(row.argmax())) for i, row in enumerate(kls) if len(row))
    return float(np.concatenate(kls).mean()), f"{value:.3g} in sequence {i} after token {j}"
