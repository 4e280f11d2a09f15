"""Decontamination: does a text contain a problem of an evaluation file?"""

import logging
from collections import Counter
from collections.abc import Iterable
from heapq import nlargest
from itertools import chain
from pathlib import Path

from hf_reason.data.read.evaluation import read_problems
from hf_reason.data.record import DataError

from .problem_keys import ProblemKeys
from .problem_parts import parts_of, split_problems

logger = logging.getLogger(__name__)

# At most so many problems are listed for one n-gram, and compared with one text.
_LONGEST_LIST = 12
_MOST_COMPARED = 8
# Of a problem with more n-grams than this only a sample is listed.
_SAMPLED_FROM = 60
# Problems that have less than this fraction of what the first has in common with a text are not compared.
_OF_THE_FIRST = 0.25


class Decontaminator:
    """Finds evaluation problems inside training texts.

    All parts of a problem count (passage, instruction and input, options), without the instructions that the rows of a
    file have in common. Texts are compared as `text_keys.normalise` reduces them: white space, punctuation, width,
    traditional characters and the writing of formulas make no difference, signs, brackets and digits do. A text is
    contaminated by a problem that

    - stands in it as a whole, or is the same formula (`计算 3+5` and `3+5=?`), or
    - is nearly the same: it has at least 80% of the problem's character n-grams, or 60% (55% of the 3-grams if it is
      not much longer than the problem) if the problem has numbers. The text must then have all numbers and signs of
      arithmetic of the problem, and agree in the words that say what is done with them (left, altogether, more,
      times, 剩, 共, 多, 倍, ...): the same template with other numbers or another question gives no answer away.

    Where problem and text both have options, at least 60% of the problem's options must be in the text. A problem
    whose stem says nothing without options ("Which of the following statements is correct?") and that has none cannot
    be decided; it is left out, counted in `undecidable`, and a warning says so. Character n-grams work in Chinese,
    where the usual word n-grams find nothing.

    Args:
        paths: Evaluation files, folders or Hub data sets, in every layout, with or without answers and chains; text
            files by lines (see `read_problems`).
        ngram: Characters of an n-gram.

    Attributes:
        undecidable: Number of problems that were left out.

    Raises:
        DataError: a source that is missing, cannot be read, or has no problem in it.
    """

    def __init__(self, paths: Iterable[str | Path], ngram: int = 8):
        if ngram < 2:
            raise ValueError(f"ngram must be at least 2, got {ngram}.")
        self.ngram = ngram
        self.undecidable = 0
        self._names: list[str] = []
        self._problems: list[ProblemKeys] = []
        # From an n-gram's hash to problems that have it, and to problems by their numbers and as a whole.
        self._by_gram: dict[int, list[int]] = {}
        self._by_numbers: dict[tuple[str, ...], list[int]] = {}
        self._by_text: dict[str, list[int]] = {}
        for path in [paths] if isinstance(paths, str | Path) else paths:
            self._load(path)

    def hits(self, text: str) -> str | None:
        """The evaluation file and row (`"cmath.jsonl#12"`) whose problem `text` contains, or `None`."""
        keys = ProblemKeys(parts_of(text), self.ngram)
        # The lowest row first, so that the answer does not depend on hashing.
        for place in sorted(self._by_text.get(keys.formula or keys.text, ())):
            if self._problems[place].options_in(keys):
                return self._names[place]
        for place in self._candidates(keys):
            if self._problems[place].is_in(keys):
                return self._names[place]
        return None

    def _candidates(self, keys: ProblemKeys) -> list[int]:
        """Problems worth a comparison, those with most n-grams in common first."""
        listed = chain.from_iterable(map(self._by_gram.__getitem__, self._by_gram.keys() & keys.grams))
        ranked = nlargest(_MOST_COMPARED, Counter(listed).items(), key=lambda item: (item[1], -item[0]))
        same_numbers = self._by_numbers.get(keys.sorted_numbers, ()) if len(keys.sorted_numbers) > 1 else ()
        least = _OF_THE_FIRST * ranked[0][1] if ranked else 0
        return list(dict.fromkeys([*(place for place, count in ranked if count >= least), *same_numbers]))

    def _load(self, path: str | Path) -> None:
        rows = list(read_problems(path))
        if not rows:
            raise DataError(f"{path}: there is no problem in this evaluation file to decontaminate against.")
        left_out = 0
        for (name, _), parts in zip(rows, split_problems([text for _, text in rows]), strict=True):
            if not parts.stem or (parts.generic and not parts.options):
                left_out += 1
                continue
            self._add(name, ProblemKeys(parts, self.ngram))
        self.undecidable += left_out
        if left_out:
            logger.warning(
                "%s: %d of %d problems have a question that says nothing by itself, and no options; they are not "
                "compared with. Give the options in a column `options` or `choices`.",
                path,
                left_out,
                len(rows),
            )

    def _add(self, name: str, keys: ProblemKeys) -> None:
        place = len(self._problems)
        self._names.append(name)
        self._problems.append(keys)
        self._by_text.setdefault(keys.formula or keys.text, []).append(place)
        for gram in keys.sample if len(keys.grams) > _SAMPLED_FROM else keys.grams:
            listed = self._by_gram.setdefault(gram, [])
            if len(listed) < _LONGEST_LIST:
                listed.append(place)
        if len(keys.sorted_numbers) > 1:
            self._by_numbers.setdefault(keys.sorted_numbers, []).append(place)
