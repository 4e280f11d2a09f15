"""Exact and near duplicates among records, on normalised text and MinHash signatures.

What the search needs of a record (`sketches`) is made once, in any process; the search itself runs over all of them
when the last record is read. Its memory is that of a few numbers a record: signatures stay in their file.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from .key_file import KeyFile
from .ngrams import code_points, ngram_hashes, signatures
from .text_keys import hash64, normalise, numbers_of, without_punctuation

SIGNATURE_LENGTH = 128
_NGRAM = 5
# A pair right at the threshold must have a band in common with this probability.
_RECALL = 0.99
# A record is compared with this many of those with which it has a band in common.
_COMPARED = 256

SKETCH = np.dtype([("exact", "<u8"), ("numbers", "<u8"), ("signature", "<u2", SIGNATURE_LENGTH)])
"""The sketch of a record.

- `exact`: hash of context and steps as `text_keys` reduces them.
- `numbers`: hash of the numbers in the context, in order.
- `signature`: MinHash of the character 5-grams of the reduced text.
"""

NEW, EXACT, NEAR = range(3)
Members = Callable[[np.ndarray, Sequence[slice]], list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Duplicates:
    """What `find_duplicates` says of each record.

    Attributes:
        kind: uint8, [records]: `NEW`, `EXACT` or `NEAR`.
        of: int64, [records]: the record that is kept instead, the record itself if it is new.
    """

    kind: np.ndarray
    of: np.ndarray


def sketches(texts: Iterable[tuple[str, str | Sequence[str]]]) -> np.ndarray:
    """Reduce records, each as its context and its chain (text or steps), to what the search needs of them.

    Returns:
        `SKETCH`, [records].
    """
    keys: list[tuple[int, int]] = []
    grams = []
    for context, steps in texts:
        chain = steps if isinstance(steps, str) else "\n".join(steps)
        text = normalise(context) + "\x1f" + without_punctuation(chain)
        keys.append((hash64(text), hash64("|".join(numbers_of(context)))))
        grams.append(ngram_hashes(code_points(text), _NGRAM))
    rows = np.zeros(len(keys), dtype=SKETCH)
    rows["signature"] = signatures(grams, SIGNATURE_LENGTH)
    if keys:
        rows["exact"], rows["numbers"] = np.array(keys, dtype=np.uint64).T
    return rows


def bands(threshold: float, length: int = SIGNATURE_LENGTH) -> list[slice]:
    """The values of a signature cut into bands: two records are compared if they have one in common.

    A pair of similarity t meets in one of b bands of r values with probability 1 - (1 - t^r)^b. Few long bands compare
    few pairs, so they are the longest with which a pair at the threshold meets 99 times out of 100.
    """
    for rows in range(16, 1, -1):
        if 1 - (1 - threshold**rows) ** (length // rows) >= _RECALL:
            break
    else:
        rows = 1
    return [slice(first, first + rows) for first in range(0, length - rows + 1, rows)]


def find_duplicates(keys: KeyFile, threshold: float = 0.8, members: Members | None = None) -> Duplicates:
    """Find the records that were seen before.

    *Exact*: context and steps are equal but for white space, punctuation, width and traditional characters. *Near*:
    the estimated Jaccard similarity of their character 5-grams (context and steps together) is at least `threshold`
    **and** the contexts name the same numbers in the same order. A word problem with other numbers is another problem,
    however similar its words are. The first of several is kept; a record is compared with those that are kept.

    The estimate's standard error is about sqrt(t(1-t)/128): 0.035 at 0.8. About 60 bytes a record are in memory, and
    up to 230 where all records have a band in common with another one.

    Args:
        keys: Rows with the fields of `SKETCH`, in the order of the records.
        threshold: Minimum Jaccard similarity of a near duplicate, in (0, 1].
        members: Runs `bucket_members` for each of the bands, on other processes or machines.

    Raises:
        ValueError: a threshold out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}.")
    exact = keys.column("exact")
    _, first, inverse = np.unique(exact, return_index=True, return_inverse=True)
    of = first.astype(np.int64)[inverse]
    del exact, first, inverse
    own = np.flatnonzero(of == np.arange(len(of)))
    cut = bands(threshold)
    parts = members(own, cut) if members else [bucket_members(keys, own, band) for band in cut]
    near = _first_alike(keys, own, parts, threshold)
    kind = np.where(of == np.arange(len(of)), NEW, EXACT).astype(np.uint8)
    if near:
        places, kept = (np.array(values, dtype=np.int64) for values in zip(*sorted(near.items()), strict=True))
        found = np.searchsorted(places, of).clip(max=len(places) - 1)
        gone = places[found] == of
        of[gone], kind[gone] = kept[found[gone]], NEAR
    return Duplicates(kind, of)


def bucket_members(keys: KeyFile, own: np.ndarray, band: slice) -> tuple[np.ndarray, np.ndarray]:
    """The records that agree with another one in a band and in their numbers.

    Args:
        keys: Rows with the fields of `SKETCH`.
        own: The rows that are compared, int64.
        band: A part of the signature.

    Returns:
        Places in `own`, uint32, and the bucket of each, uint64: equal for those that agree.
    """
    # the start of the band keeps its buckets apart from those of others
    bucket = mixed(keys.column("signature", band)[own], keys.column("numbers")[own] ^ np.uint64(band.start + 1))
    order = np.argsort(bucket, kind="stable")
    ordered = bucket[order]
    same = ordered[1:] == ordered[:-1]
    together = np.concatenate([same, [False]]) | np.concatenate([[False], same]) if len(order) else same
    return order[together].astype(np.uint32), ordered[together]


def mixed(columns: np.ndarray, start: np.ndarray) -> np.ndarray:
    """One uint64 a row that is equal for rows with equal columns and an equal start."""
    result = start.astype(np.uint64, copy=True)
    for column in columns.T:
        result = result * np.uint64(0x9E3779B97F4A7C15) + column
        result ^= result >> np.uint64(29)
    return result


def _first_alike(
    keys: KeyFile, own: np.ndarray, parts: Sequence[tuple[np.ndarray, np.ndarray]], threshold: float
) -> dict[int, int]:
    """For each near duplicate (a row of `keys`) the kept row that it resembles most."""
    found: dict[int, int] = {}
    kept: dict[int, list[int]] = {}
    for place, buckets in _by_record(parts):
        row = int(own[place])
        candidates = sorted({other for bucket in buckets for other in kept.get(bucket, ())})[:_COMPARED]
        if candidates:
            known = keys.take("signature", [*candidates, row])
            alike = (known[:-1] == known[-1]).mean(axis=1)
            best = int(alike.argmax())
            if alike[best] >= threshold:
                found[row] = candidates[best]
                continue
        for bucket in buckets:
            if len(members := kept.setdefault(bucket, [])) < _COMPARED:
                members.append(row)
    return found


def _by_record(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[int, list[int]]]:
    """Each record that is in a bucket, in order, with its buckets."""
    places = np.concatenate([places for places, _ in parts])
    buckets = np.concatenate([buckets for _, buckets in parts])
    order = np.argsort(places, kind="stable")
    pairs = zip(places[order], buckets[order], strict=True)
    for place, group in groupby(pairs, key=lambda pair: pair[0]):
        yield int(place), [int(bucket) for _, bucket in group]
