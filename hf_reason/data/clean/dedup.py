"""Exact and near duplicates among records, on normalised text and MinHash signatures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .text_keys import hash64, normalise, numbers_of, without_punctuation

if TYPE_CHECKING:
    import rensa

_SEED = 42
# Up to this many records with the same numbers are compared one by one; above it an index is faster.
_DIRECT = 64


def _bands(threshold: float, num_perm: int) -> int:
    """Bands of the LSH index: as few as find a pair right at the threshold nine times out of ten.

    A pair of similarity t meets in one of b bands of r rows with probability 1 - (1 - t^r)^b.
    """
    for rows in (16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (num_perm // rows) >= 0.9:
            return num_perm // rows
    return num_perm


@dataclass(frozen=True, slots=True)
class Sketch:
    """What the search needs of a record; may be made in another process than the one that searches.

    Attributes:
        exact: 64-bit hash of context and steps as `text_keys` reduces them.
        numbers: 64-bit hash of the numbers in the context.
        minhash: MinHash of the character n-grams of the reduced text.
    """

    exact: int
    numbers: int
    minhash: "rensa.RMinHash"


class _Group:
    """Records whose contexts name the same numbers.

    The first `_DIRECT` are compared one by one, later ones through an LSH index.
    """

    __slots__ = ("_signatures", "_index")

    def __init__(self) -> None:
        self._signatures = bytearray()
        self._index: rensa.RMinHashLSH | None = None

    def best(self, minhash: "rensa.RMinHash") -> float:
        """The largest estimated similarity to a member."""
        if not self._signatures:
            return 0.0
        signature = _signature(minhash)
        known: Any = np.frombuffer(self._signatures, dtype=np.uint16).reshape(-1, len(signature))
        if self._index is not None:
            known = known[[*range(_DIRECT), *sorted(self._index.query(minhash))]]
        return float((known == signature).mean(axis=1).max(initial=0.0))

    def insert(self, minhash: "rensa.RMinHash", threshold: float) -> None:
        signature = _signature(minhash)
        place = len(self._signatures) // signature.nbytes
        if place >= _DIRECT:
            if self._index is None:
                from rensa import RMinHashLSH

                self._index = RMinHashLSH(threshold, len(signature), _bands(threshold, len(signature)))
            self._index.insert(place, minhash)
        self._signatures += signature.tobytes()


def _signature(minhash: "rensa.RMinHash") -> np.ndarray:
    # 16 bits a value: by chance one in 65,536 agrees, which does not move the estimate.
    return np.array(minhash.digest(), dtype=np.uint32).astype(np.uint16)


class Deduplicator:
    """Finds records that were seen before, one at a time and in order.

    *Exact*: context and steps are equal but for white space, punctuation, width and traditional characters. *Near*:
    the estimated Jaccard similarity of their character n-grams (context and steps together) is at least `threshold`
    **and** the contexts name the same numbers in the same order. A word problem with other numbers is another problem,
    however similar its words are.

    The result depends only on the order of the calls: adding the kept records of an earlier run again
    rebuilds the state. It needs about 600 bytes per record.

    Args:
        threshold: Minimum Jaccard similarity of a near duplicate, in (0, 1].
        ngram: Characters of an n-gram.
        num_perm: Length of a MinHash signature; the estimate's standard error is about
            sqrt(t(1-t)/num_perm), 0.035 at the defaults.

    Raises:
        ValueError: a parameter out of range.
    """

    def __init__(self, threshold: float = 0.8, ngram: int = 5, num_perm: int = 128):
        if not 0 < threshold <= 1 or ngram < 1 or num_perm < 16 or num_perm % 16:
            raise ValueError(
                "threshold must be in (0, 1], ngram at least 1 and num_perm a multiple of 16; got "
                f"threshold={threshold}, ngram={ngram}, num_perm={num_perm}."
            )
        self.threshold, self.ngram, self.num_perm = threshold, ngram, num_perm
        self._exact: set[int] = set()
        self._groups: dict[int, _Group] = {}

    def sketch(self, context: str, steps: str | list[str]) -> Sketch:
        """Reduce a record to what the search needs. This takes most of the time and changes no state."""
        from rensa import RMinHash

        chain = steps if isinstance(steps, str) else "\n".join(steps)
        text = normalise(context) + "\x1f" + without_punctuation(chain)
        minhash = RMinHash(self.num_perm, _SEED)
        # Slices of bytes cost two thirds of what slices of a string with Chinese in it cost.
        units, length = text.encode("utf-16-le", "surrogatepass"), 2 * self.ngram
        minhash.update([units[at : at + length] for at in range(0, max(2, len(units) - length + 2), 2)])
        return Sketch(hash64(text), hash64("|".join(numbers_of(context))), minhash)

    def add(self, context: str, steps: str | list[str]) -> str | None:
        """Add a record and say whether it is a duplicate; duplicates are not remembered.

        Returns:
            `"exact"`, `"near"` or `None` for a record that is new.
        """
        return self.add_sketch(self.sketch(context, steps))

    def add_sketch(self, sketch: Sketch) -> str | None:
        """The same for a record's sketch."""
        if sketch.exact in self._exact:
            return "exact"
        group = self._groups.get(sketch.numbers)
        if group is None:
            group = self._groups[sketch.numbers] = _Group()
        elif group.best(sketch.minhash) >= self.threshold:
            return "near"
        self._exact.add(sketch.exact)
        group.insert(sketch.minhash, self.threshold)
        return None
