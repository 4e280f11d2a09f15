"""Decontamination: does a text contain a problem of an evaluation file?"""

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hf_reason.data.record import DataError

from .text_keys import normalise, numbers_of

# Columns that hold the problem, in the order of preference.
_FIELDS = ("question", "problem", "context", "prompt", "instruction", "input", "query", "text", "Question", "title")
_MESSAGES = ("messages", "conversations", "prompt")
_USER = ("user", "human")
# The share of an evaluation text's n-grams that a text may hold; see `Decontaminator`.
_MAX_SHARE = 0.6


class Decontaminator:
    """Finds evaluation problems inside training texts, by character n-grams of the normalised texts.

    A text is contaminated by an evaluation problem if it holds at least 60% of the problem's distinct
    n-grams **and** all of its numbers: a problem of the same making with other numbers does not give the
    answer away. A problem of fewer than two n-grams counts only when the whole text equals it. Character
    n-grams work in Chinese, where the usual word n-grams find nothing.

    Args:
        paths: Evaluation files: JSONL, JSON, CSV or Parquet (the first of the fields question, problem, context,
            prompt, instruction, input, query, text, or the user's turns of messages), anything else by lines.
        ngram: Characters of an n-gram.

    Raises:
        DataError: a file that is missing, cannot be parsed, or has no text in it.
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
            self._load(Path(path))

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
            if count < _MAX_SHARE * self._sizes[problem]:
                continue
            numbers = Counter(numbers_of(text)) if numbers is None else numbers
            if self._numbers[problem] <= numbers:
                return self._names[problem]
        return None

    def _grams(self, normal: str) -> set[int]:
        return {hash(normal[at : at + self.ngram]) for at in range(len(normal) - self.ngram + 1)}

    def _load(self, path: Path) -> None:
        found = False
        for row, text in _texts(path):
            normal = normalise(text)
            if not normal:
                continue
            found = True
            name = f"{path.name}#{row}"
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
            raise DataError(f"{path}: no text in this evaluation file to decontaminate against.")


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The problems of an evaluation file with their row numbers from 1."""
    if not path.is_file():
        raise DataError(f"{path}: no such evaluation file; decontamination takes paths of files.")
    kind = path.suffix.lower()
    try:
        if kind in (".jsonl", ".ndjson", ".json", ".csv", ".parquet"):
            for number, row in _rows(path, kind):
                yield number, _problem(row, path, number)
        else:
            with path.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield number, line.strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error}). Convert it to UTF-8.") from error


def _rows(path: Path, kind: str) -> Iterator[tuple[int, Any]]:
    if kind == ".parquet":
        import pyarrow.parquet as parquet

        yield from enumerate(parquet.read_table(path).to_pylist(), 1)
        return
    with path.open(encoding="utf-8-sig", newline="" if kind == ".csv" else None) as file:
        if kind == ".csv":
            yield from enumerate(csv.DictReader(file), 1)
            return
        if kind == ".json":
            try:
                data = json.load(file)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}: not JSON ({error}). One object a line is JSONL: name it .jsonl.") from error
            if isinstance(data, dict):
                data = next((value for value in data.values() if isinstance(value, list)), [data])
            yield from enumerate(data, 1)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, row {number}: not JSON ({error}).") from error


def _problem(row: Any, path: Path, number: int) -> str:
    if isinstance(row, str):
        return row
    if isinstance(row, dict):
        for name in _FIELDS:
            if isinstance(row.get(name), str) and row[name].strip():
                return row[name]
        for name in _MESSAGES:
            turns = row.get(name)
            if isinstance(turns, list):
                said = [
                    turn.get("content", turn.get("value"))
                    for turn in turns
                    if isinstance(turn, dict) and turn.get("role", turn.get("from")) in _USER
                ]
                if any(isinstance(text, str) for text in said):
                    return "\n".join(text for text in said if isinstance(text, str))
        seen = ", ".join(map(str, row))
    else:
        seen = type(row).__name__
    raise DataError(f"{path}, row {number}: none of the fields {', '.join(_FIELDS)} holds text; it has {seen}.")
