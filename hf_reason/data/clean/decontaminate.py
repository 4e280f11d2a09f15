"""Decontamination: does a text contain a problem of an evaluation file?"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hf_reason.data.read.evaluation import read_problems
from hf_reason.data.record import DataError

from .text_keys import normalise, numbers_of

# The fraction of an evaluation problem's n-grams from which a text contains it; see `Decontaminator`.
_MIN_RATIO = 0.6


class Decontaminator:
    """Finds evaluation problems inside training texts, by character n-grams of the normalised texts.

    A text is contaminated by an evaluation problem if it holds at least 60% of the problem's distinct
    n-grams **and** all of its numbers: a problem of the same template with other numbers does not give the
    answer away. A problem of fewer than two n-grams counts only if the whole text equals it. Character
    n-grams work in Chinese, where the usual word n-grams find nothing.

    Args:
        paths: Evaluation files, folders or Hub data sets, in every layout, with or without answers and chains; text
            files by lines (see `read_problems`).
        ngram: Characters of an n-gram.

    Raises:
        DataError: a source that is missing, cannot be read, or has no problem in it.
    """

    def __init__(self, paths: Iterable[str | Path], ngram: int = 13):
        if ngram < 2:
            raise ValueError(f"ngram must be at least 2, got {ngram}.")
        self.ngram = ngram
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._numbers: list[Counter[str]] = []
        # From an n-gram's hash to the problems that have it.
        self._index: dict[int, int | tuple[int, ...]] = {}
        self._short: dict[str, str] = {}
        for path in [paths] if isinstance(paths, str | Path) else paths:
            self._load(path)

    def hits(self, text: str) -> str | None:
        """The evaluation file and row (`"cmath.jsonl#12"`) whose problem `text` contains, or `None`."""
        normal = normalise(text)
        if normal in self._short:
            return self._short[normal]
        counts: Counter[int] = Counter()
        for gram in self._grams(normal):
            found = self._index.get(gram)
            if found is not None:
                counts.update((found,) if isinstance(found, int) else found)
        if not counts:
            return None
        numbers = None
        # The lowest row first among equals, so that the answer does not depend on hashing.
        for problem, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            if count < _MIN_RATIO * self._sizes[problem]:
                continue
            numbers = Counter(numbers_of(text)) if numbers is None else numbers
            if self._numbers[problem] <= numbers:
                return self._names[problem]
        return None

    def _grams(self, normal: str) -> set[int]:
        return {hash(normal[at : at + self.ngram]) for at in range(len(normal) - self.ngram + 1)}

    def _load(self, path: str | Path) -> None:
        found = False
        for name, text in read_problems(path):
            normal = normalise(text)
            if not normal:
                continue
            found = True
            if len(normal) <= self.ngram:
                self._short.setdefault(normal, name)
                continue
            grams = self._grams(normal)
            problem = len(self._names)
            self._names.append(name)
            self._sizes.append(len(grams))
            self._numbers.append(Counter(numbers_of(text)))
            for gram in grams:
                known = self._index.get(gram)
                if known is None:
                    self._index[gram] = problem
                else:
                    self._index[gram] = (*((known,) if isinstance(known, int) else known), problem)
        if not found:
            raise DataError(f"{path}: there is no problem in this evaluation file to decontaminate against.")
