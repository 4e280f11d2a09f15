"""Reads the table of answers (answer_pairs.yaml), for the tests and for recipes/bench/bench_answers.py.

A kind has up to four blocks of lines. `same`: a reference and other writings of it; each writing matches its own
reference and not the one of the line after it. `equal`, `different` and `open`: a pair (answer | reference) that
matches, that must not match, and that cannot be decided. ⏎ is a line break.
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

TABLE = Path(__file__).parent / "answer_pairs.yaml"
# (kind, answer, reference, whether they match; None: cannot be decided)
Pair = tuple[str, str, str, bool | None]


def read_pairs(path: Path = TABLE) -> Iterator[Pair]:
    """Every pair of the table."""
    for kind, blocks in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        lines = [line.split(" | ") for line in blocks.get("same", "").splitlines()]
        for line, after in zip(lines, [*lines[1:], *lines[:1]], strict=True):
            for writing in line[1:]:
                yield kind, writing, line[0], True
                yield kind, writing, after[0], False
        for block, verdict in (("equal", True), ("different", False), ("open", None)):
            for line in blocks.get(block, "").splitlines():
                answer, reference = (text.replace("⏎", "\n") for text in line.split(" | "))
                yield kind, answer, reference, verdict
