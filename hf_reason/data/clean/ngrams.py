"""Character n-grams as 64-bit hashes, and MinHash signatures of them; all in compiled code."""

from collections.abc import Sequence

import numpy as np

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SEED = 42


def code_points(text: str) -> np.ndarray:
    """The code points of a text, uint32, [characters]; lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def ngram_hashes(codes: np.ndarray, n: int) -> np.ndarray:
    """A hash for each n-gram, in order.

    The polynomial of Karp and Rabin 1987 (Efficient randomized pattern-matching algorithms) modulo 2**64, over
    multiplied code points: two different n-grams collide with a probability of about 2**-64 each.

    Args:
        codes: Code points, [characters].
        n: Characters of an n-gram, at least 1.

    Returns:
        uint64, [max(1, characters - n + 1)]; a shorter text is one n-gram. Without characters: [0].
    """
    values = (codes.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
    values ^= values >> np.uint64(29)
    n = min(n, len(values))
    if not n:
        return values
    count = len(values) - n + 1
    hashes = values[:count].copy()
    for shift in range(1, n):
        hashes *= _MULTIPLIER
        hashes += values[shift : shift + count]
    return hashes


def signatures(hashes: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The MinHash signature of each set of hashes.

    Args:
        hashes: uint64, one array for each text.
        length: Values of a signature.

    Returns:
        uint16, [texts, length]: the lower 16 bits of each minimum. By chance one in 65,536 agrees, which does not move
        the estimate of a similarity (the fraction of equal values).
    """
    from rensa import RMinHash

    if not hashes:
        return np.zeros((0, length), dtype=np.uint16)
    offsets = np.cumsum([0, *map(len, hashes)], dtype=np.uint64)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashes), offsets, length, _SEED).to_rows()
    return np.array(rows, dtype=np.uint32).astype(np.uint16)
