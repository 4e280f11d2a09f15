"""Train, validation and test: chosen by the context's family, so that no near-copy is in two splits.

Near-duplicate removal looks at context and steps together, so two records with nearly the same context and
different chains both stay. Were they split by a hash of their own text, one could be trained on and the
other tested on. Contexts are therefore joined to families first, and the family decides:

1. Contexts whose character 3-grams have a Jaccard similarity of at least 0.7 (estimated with MinHash) form one
   family; so do contexts joined by a chain of such pairs.
2. A family of more than 1% of the records (and more than 8) is a template, such as the same sentence with
   other numbers a thousand times; as a whole it would empty or flood a split. Inside of it a pair must also
   state the same numbers.
3. What is still larger than that is joined only where the normalised contexts are equal.

The split depends on a hash of the family's smallest context hash: neither on the order of the records nor on
chance, and a family keeps its split when the data set grows around it. (A new near-copy with a smaller
hash moves its family as a whole.)
"""

import re
from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from .dedup import mixed
from .key_file import KeyFile
from .ngrams import code_points, ngram_hashes, signatures
from .text_keys import hash64, letters_and_digits

SPLITS = ("train", "validation", "test")

_SIGNATURE_LENGTH = 64
_NGRAM = 3
_SIMILARITY = 0.7
# 16 bands of 4 rows: a pair at similarity 0.8 has a band in common with probability 0.9998, at 0.7 with 0.99.
_BAND_ROWS = 4
# A record is compared with the first of its bucket and with this many neighbours before it.
_NEIGHBOURS = 3
_TEMPLATE_RATIO = 0.01
_TEMPLATE_MINIMUM = 8
_BLOCK = 65536

CONTEXT_KEY = np.dtype(
    [("context", "<u8"), ("context_numbers", "<u8"), ("context_signature", "<u2", _SIGNATURE_LENGTH)]
)
"""What is kept of a context for the split.

- `context`: hash of the context's letters and digits.
- `context_numbers`: hash of the numbers in it, in any order.
- `context_signature`: MinHash of the 3-grams of its letters and digits.
"""


def context_keys(contexts: Iterable[str]) -> np.ndarray:
    """The keys of contexts (`CONTEXT_KEY`); equal for those that differ only in case, space and punctuation."""
    texts = [letters_and_digits(context) for context in contexts]
    rows = np.zeros(len(texts), dtype=CONTEXT_KEY)
    grams = [ngram_hashes(code_points(text), _NGRAM) for text in texts]
    rows["context_signature"] = signatures(grams, _SIGNATURE_LENGTH)
    rows["context"] = [hash64(text) for text in texts]
    rows["context_numbers"] = [hash64(" ".join(sorted(re.findall(r"\d+", text)))) for text in texts]
    return rows


def assign_splits(keys: KeyFile, kept: np.ndarray, validation_size: float, test_size: float) -> np.ndarray:
    """The split of every record that is kept, as an index into `SPLITS`.

    About 60 bytes a record are in memory.

    Args:
        keys: Rows with the fields of `CONTEXT_KEY`.
        kept: The rows that count, int64, in order.
        validation_size: Expected fraction of the families in validation, in [0, 1].
        test_size: The same for test; the two sum to at most 1.

    Returns:
        uint8, [kept].
    """
    if not len(kept):
        return np.zeros(0, dtype=np.uint8)
    families = context_families(keys, kept)
    exact = keys.column("context")[kept]
    smallest = np.full(int(families.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, families, exact)
    # Hashed once more: the smallest of many hashes is not evenly spread.
    position = np.fromiter((hash64(str(value)) / 2**64 for value in smallest.tolist()), float, len(smallest))
    split = np.full(len(smallest), SPLITS.index("train"), dtype=np.uint8)
    # A position may round up to 1, so sizes that leave nothing for a split are compared by themselves.
    split[(position < validation_size + test_size) | (validation_size + test_size > 1 - 1e-9)] = SPLITS.index(
        "validation"
    )
    split[(position < test_size) | (test_size == 1)] = SPLITS.index("test")
    return split[families]


def context_families(keys: KeyFile, kept: np.ndarray) -> np.ndarray:
    """The family of every record that is kept, int64, [kept], labels without gaps; arguments as in `assign_splits`."""
    limit = max(_TEMPLATE_MINIMUM, int(len(kept) * _TEMPLATE_RATIO))
    families = _components(keys, kept, np.zeros(len(kept), dtype=np.uint64))
    for stricter in ("numbers", "exact"):
        rows = np.flatnonzero(np.bincount(families)[families] > limit)
        if not len(rows):
            break
        if stricter == "numbers":
            parts = _components(keys, kept[rows], keys.column("context_numbers")[kept[rows]])
        else:
            parts = np.unique(keys.column("context")[kept[rows]], return_inverse=True)[1]
        families[rows] = families.max() + 1 + parts
        families = np.unique(families, return_inverse=True)[1]
    return families


def _components(keys: KeyFile, kept: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Label the connected components of: similar signatures and equal values of `same`."""
    parent = array("q", range(len(same)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first in range(0, _SIGNATURE_LENGTH, _BAND_ROWS):
        band = keys.column("context_signature", slice(first, first + _BAND_ROWS))[kept]
        for left, right in _pairs(mixed(band, same)):
            for start in range(0, len(left), _BLOCK):
                a, b = left[start : start + _BLOCK], right[start : start + _BLOCK]
                one, other = (keys.take("context_signature", kept[rows]) for rows in (a, b))
                alike = (one == other).mean(axis=1) >= _SIMILARITY
                for x, y in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
                    x, y = root(x), root(y)
                    parent[max(x, y)] = min(x, y)
    labels = np.fromiter((root(node) for node in range(len(parent))), dtype=np.int64, count=len(parent))
    return np.unique(labels, return_inverse=True)[1]


def _pairs(bucket: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield index arrays (left, right): each row with the first of its bucket and its nearest neighbours there."""
    order = np.argsort(bucket, kind="stable")
    ordered = bucket[order]
    place = np.arange(len(order))
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(is_first, place, 0))
    yield order[first[~is_first]], order[~is_first]
    for distance in range(1, _NEIGHBOURS + 1):
        together = np.flatnonzero(ordered[distance:] == ordered[:-distance])
        yield order[together], order[together + distance]
