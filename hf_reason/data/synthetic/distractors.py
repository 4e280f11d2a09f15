"""Distractors: a sentence with an irrelevant or a wrong number, inserted between the sentences of a problem.

The sentences stand in `distractors.yaml`: those of evaluation, and others for training, by domain.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hf_reason.data.languages import cjk_ratio
from hf_reason.data.record import record_id

TEMPLATES = ("train", "test")
KINDS = ("irrelevant", "wrong")


@dataclass(frozen=True)
class _Template:
    """A sentence; see `distractors.yaml`."""

    about: tuple[str, ...]
    says: str
    low: int = 0
    high: int = 0


@dataclass(frozen=True)
class Distracted:
    """A record with a distractor.

    Attributes:
        record: The copy.
        sentence: What was inserted.
        kind: One of `KINDS`.
    """

    record: dict[str, Any]
    sentence: str
    kind: str


@cache
def _read_templates() -> dict[str, dict[str, dict[str, tuple[_Template, ...]]]]:
    """Set, domain (or `wrong`), language -> sentences."""

    def read(rows: Sequence[Mapping[str, Any]]) -> tuple[_Template, ...]:
        return tuple(_Template(tuple(row["about"]), row["says"], row.get("from", 0), row.get("to", 0)) for row in rows)

    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return {
        name: {domain: {language: read(rows) for language, rows in spoken.items()} for domain, spoken in found.items()}
        for name, found in yaml.safe_load(text).items()
    }


_OPENING, _CLOSING = "“‘「『《（(【[{", "”’」』》）)】]}"
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|St|Prof|No|Fig|Eq|vs|etc|approx|Jr|Sr|Inc|Co)|\b[A-Za-z])$")
# Spans that no sentence may be put into: code, formulas, tables.
_CLOSED_SPANS = re.compile(r"```.*?(?:```|\Z)|\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|(?m:^\s*\|.*$)", re.S)
# Where the question begins: nothing is inserted after this point. Choices (A. ...) belong to the question.
_ASKS = re.compile(
    r"[?？]|多少|求|是否|\b(?:how (?:many|much)|find|calculate|compute|determine|solve|evaluate|prove)\b"
    r"|^\s*[(（]?[A-HＡ-Ｈ][)）.．、:：]",
    re.I | re.M,
)


def sentence_starts(text: str) -> list[int]:
    """Offsets in `text` at which a sentence begins, 0 among them.

    A sentence ends at `。！？`, at one of `.．!?` that is followed by white space or a Chinese character (so not
    inside 3.5 or e.g.), and at an empty line; never inside quotes, brackets, code blocks, formulas or tables, nor
    right before one of the last three.
    """
    closed = [match.span() for match in _CLOSED_SPANS.finditer(text)]
    starts, depth, at = [0], 0, 0
    while at < len(text):
        span = next((span for span in closed if span[0] <= at < span[1]), None)
        if span:
            at = span[1]
            continue
        char = text[at]
        at += 1
        if char == "\n":
            depth = 0
        elif char in _OPENING:
            depth += 1
        elif char in _CLOSING and depth:
            depth -= 1
        if depth or not _ends_sentence(text, at - 1):
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if at < len(text) and all(at != span[0] for span in closed):
            starts.append(at)
    return starts


def _ends_sentence(text: str, at: int) -> bool:
    char, before, after = text[at], text[:at], text[at + 1 : at + 2]
    if char in "”’」』" and before[-1:] in tuple("。！？.!?"):
        return True
    if char == "\n":
        return after == "\n"
    if char in "。！？":
        return after not in tuple("”’」』。！？.!?…")
    if char not in ".．!?" or not (after.isspace() or cjk_ratio(after) == 1.0 and after.isalpha()):
        return False
    return char != "." or not _ABBREVIATION.search(before)


def insert_distractor(record: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """A copy of `record` with a distractor of the evaluation: `distract` with the templates `test`.

    Args:
        record: A record; `context` must be there, the other fields may be missing.
        seed: Chooses the sentence, the number and the place.
    """
    return distract(record, seed).record


def distract(
    record: Mapping[str, Any], seed: int = 0, *, templates: str = "test", kinds: Sequence[str] = ("irrelevant",)
) -> Distracted:
    """A copy of `record` whose context has one sentence with a number in addition that the answer does not need.

    The sentence is in the language of the context, is at a sentence boundary before the question, has no topic in
    common with the record where that can be, and its number occurs nowhere in the record. Task, steps, answer and
    every character of the old context stay; the id follows the new context. The same record and seed give the same
    copy.

    Args:
        record: A record; `context` must be there, the other fields may be missing.
        seed: Chooses the sentence, the number and the place.
        templates: `test`: those of evaluation. `train`: others, half of them of the record's domain where there are
            any.
        kinds: `irrelevant`: about something else. `wrong`: a wrong value of a number in the problem, which the
            sentence itself says to be wrong; where the problem has no number, the sentence is irrelevant.

    Raises:
        ValueError: for unknown templates or kinds.
    """
    if templates not in TEMPLATES:
        raise ValueError(f"templates must be one of {', '.join(TEMPLATES)}, got {templates!r}.")
    if not kinds or (unknown := [kind for kind in kinds if kind not in KINDS]):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, got {', '.join(unknown) if kinds else 'none'}.")
    context = record["context"]
    task, answer = record.get("task", ""), record.get("answer", "")
    rng = random.Random(f"{seed}/{record_id(context, task, answer)}")
    known = "\n".join((context, task, *record.get("steps", ()), answer)).lower()
    chinese = cjk_ratio(context) >= 0.5 if re.search(r"[^\W\d_]{2}", context) else record.get("language") != "en"
    language = "zh" if chinese else "en"
    taken = set(re.findall(r"\d+", known))

    kind = rng.choice(sorted(kinds)) if len(kinds) > 1 else kinds[0]
    pairs = _wrong_values(context, taken) if kind == "wrong" else []
    if kind == "wrong" and pairs:
        template = _unrelated(_read_templates()[templates]["wrong"][language], known, rng)
        old, new = rng.choice(pairs)
        sentence = template.says.format(old=old, n=new)
    else:
        kind = "irrelevant"
        found = _read_templates()[templates]
        own = found.get(record.get("domain") or "", found["general"])
        own = found["general"] if own is found["general"] or rng.random() < 0.5 else own
        template = _unrelated(own[language], known, rng)
        low, high = template.low, template.high
        free = [number for number in range(low, high + 1) if str(number) not in taken] or [_free_above(high, taken)]
        sentence = template.says.format(n=rng.choice(free))

    place = rng.choice(_places(context))
    gap = "" if chinese or place == len(context) else " "
    noisy = context[:place] + sentence + gap + context[place:]
    name = record_id(noisy, task, answer, record.get("images") or ())
    return Distracted({**record, "context": noisy, "id": name}, sentence, kind)


def _unrelated(choices: Sequence[_Template], known: str, rng: random.Random) -> _Template:
    """The sentence with the fewest words in common with the record; nearly always there is one with none."""
    shuffled = list(choices)
    rng.shuffle(shuffled)
    return min(shuffled, key=lambda choice: sum(word in known for word in choice.about))


def _free_above(high: int, taken: set[str]) -> int:
    """The first number above `high` that the record does not have."""
    return next(number for number in range(high + 1, high + len(taken) + 2) if str(number) not in taken)


def _wrong_values(context: str, taken: set[str]) -> list[tuple[str, str]]:
    """Whole numbers of the problem of up to six digits, each with wrong values that the record has nowhere."""
    found = []
    # neither a part of a decimal, a name (x2), a date, a ratio, a formula or a code, nor a number with a leading zero
    for old in sorted(set(re.findall(r"(?<![\w.,:/^=$\\-])[1-9]\d{0,5}(?![\d.,:/^%$]|[A-Za-z_])", context, re.ASCII))):
        number = int(old)
        wrong = {number + 1, number - 1, number + 10, number * 10, int(old[::-1])}
        found += [(old, str(value)) for value in sorted(wrong) if value > 0 and str(value) not in taken]
    return found


def _places(context: str) -> list[int]:
    """The sentence starts up to the first sentence that asks; the beginning when the first one asks already."""
    starts = sentence_starts(context)
    ends = [*starts[1:], len(context)]
    asking = [start for start, end in zip(starts, ends, strict=True) if _ASKS.search(context, start, end)]
    last = asking[0] if asking else starts[-1]
    return [start for start in starts if start <= last]
