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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .text_keys import hash64, letters_and_digits

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation", "test")
SIGNATURE_LENGTH = 64

_NGRAM = 3
_SEED = 42
_SIMILARITY = 0.7
# 16 bands of 4 rows: a pair at similarity 0.8 has a band in common with probability 0.9998, at 0.7 with 0.99.
_BAND_ROWS = 4
# A record is compared with the first of its bucket and with this many neighbours before it.
_NEIGHBOURS = 3
_TEMPLATE_RATIO = 0.01
_TEMPLATE_MINIMUM = 8
_BLOCK = 65536


@dataclass(frozen=True)
class ContextKey:
    """What is kept of a context for the split (272 bytes per record).

    Attributes:
        signature: MinHash of the normalised context: `SIGNATURE_LENGTH` little-endian uint32.
        numbers: 64-bit hash of the numbers in the context, in any order.
        exact: 64-bit hash of the normalised context.
    """

    signature: bytes
    numbers: int
    exact: int


def context_key(context: str) -> ContextKey:
    """The `ContextKey` of a context; equal for contexts that differ only in case, space and punctuation."""
    import numpy as np
    from rensa import RMinHash

    text = letters_and_digits(context)
    sketch = RMinHash(num_perm=SIGNATURE_LENGTH, seed=_SEED)
    sketch.update([text[i : i + _NGRAM] for i in range(max(1, len(text) - _NGRAM + 1))])
    return ContextKey(
        signature=np.asarray(sketch.digest(), dtype="<u4").tobytes(),
        numbers=hash64(" ".join(sorted(re.findall(r"\d+", text)))),
        exact=hash64(text),
    )


def assign_splits(
    signatures: "np.ndarray", numbers: "np.ndarray", exact: "np.ndarray", validation_size: float, test_size: float
) -> "np.ndarray":
    """The split of every record, as an index into `SPLITS`.

    Args:
        signatures: uint32, [records, SIGNATURE_LENGTH].
        numbers: uint64, [records].
        exact: uint64, [records].
        validation_size: Expected fraction of the families in validation, in [0, 1].
        test_size: The same for test; the two sum to at most 1.

    Returns:
        uint8, [records].
    """
    import numpy as np

    if not len(exact):
        return np.zeros(0, dtype=np.uint8)
    families = context_families(signatures, numbers, exact)
    smallest = np.full(int(families.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, families, exact)
    # Hashed once more: the smallest of many hashes is not evenly spread.
    position = np.array([hash64(str(value)) / 2**64 for value in smallest.tolist()])
    split = np.full(len(smallest), SPLITS.index("train"), dtype=np.uint8)
    # A position may round up to 1, so sizes that leave nothing for a split are compared by themselves.
    split[(position < validation_size + test_size) | (validation_size + test_size > 1 - 1e-9)] = SPLITS.index(
        "validation"
    )
    split[(position < test_size) | (test_size == 1)] = SPLITS.index("test")
    return split[families]


def context_families(signatures: "np.ndarray", numbers: "np.ndarray", exact: "np.ndarray") -> "np.ndarray":
    """The family of every record (int64, [records], labels without gaps); shapes as in `assign_splits`."""
    import numpy as np

    limit = max(_TEMPLATE_MINIMUM, int(len(exact) * _TEMPLATE_RATIO))
    families = _components(signatures, np.zeros_like(numbers))
    for stricter in ("numbers", "exact"):
        rows = np.flatnonzero(np.bincount(families)[families] > limit)
        if not len(rows):
            break
        if stricter == "numbers":
            parts = _components(signatures[rows], numbers[rows])
        else:
            parts = np.unique(exact[rows], return_inverse=True)[1]
        families[rows] = families.max() + 1 + parts
        families = np.unique(families, return_inverse=True)[1]
    return families


def _components(signatures: "np.ndarray", same: "np.ndarray") -> "np.ndarray":
    """Label the connected components of: similar signatures and equal values of `same`."""
    import numpy as np

    parent = list(range(len(same)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for first in range(0, SIGNATURE_LENGTH, _BAND_ROWS):
        for left, right in _pairs(_bucket(signatures[:, first : first + _BAND_ROWS], same)):
            for start in range(0, len(left), _BLOCK):
                a, b = left[start : start + _BLOCK], right[start : start + _BLOCK]
                alike = (signatures[a] == signatures[b]).mean(axis=1) >= _SIMILARITY
                for one, other in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
                    one, other = root(one), root(other)
                    parent[max(one, other)] = min(one, other)
    labels = np.fromiter((root(node) for node in range(len(parent))), dtype=np.int64, count=len(parent))
    return np.unique(labels, return_inverse=True)[1]


def _bucket(band: "np.ndarray", same: "np.ndarray") -> "np.ndarray":
    """One uint64 a row that is equal for rows with an equal band and an equal `same`."""
    import numpy as np

    mixed = same.astype(np.uint64, copy=True)
    for column in band.T:
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + column
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _pairs(bucket: "np.ndarray"):
    """Yield index arrays (left, right): each row with the first of its bucket and its nearest neighbours there."""
    import numpy as np

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
