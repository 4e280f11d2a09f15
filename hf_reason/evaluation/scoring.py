"""What is right and what is not: the pure functions that the metrics and the evaluator are made of."""

import math
import re
import statistics
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from hf_reason.answers.equations import Equation, evaluate_expression, find_equations
from hf_reason.answers.final import final_part
from hf_reason.answers.verify import answers_match
from hf_reason.data.clean.filters import FilterConfig, repeated_steps, repetition
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, parse, split_completion

# Two-sided 95% of the normal distribution.
Z_95 = 1.959963984540054
# An output loops when its character n-grams, or its steps, repeat by more than this: the data filter's limit.
LOOP_THRESHOLD = FilterConfig.max_repetition

_EDGES = re.compile(r"^[^\w\\({\[$<+−-]+|[^\w)}\]$>%℃°]+$")
_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:[.．]\d+)?"
_NUMBER = re.compile(rf"{_DECIMAL}(?:\s*/\s*{_DECIMAL}|[万亿]|\s?[%％])?")


@dataclass(frozen=True)
class StepScore:
    """Counts over the steps of one output (or the sum over several).

    Attributes:
        total: Steps; one that repeats an earlier one word for word is not counted again.
        checkable: Steps with an equation. The others are neither right nor wrong.
        holding: Checkable steps whose equations all hold.
        correct: Holding steps whose result is one of the reference's; see `score_steps`.
    """

    total: int = 0
    checkable: int = 0
    holding: int = 0
    correct: int = 0

    def __add__(self, other: "StepScore") -> "StepScore":
        return StepScore(
            self.total + other.total,
            self.checkable + other.checkable,
            self.holding + other.holding,
            self.correct + other.correct,
        )


class LengthScore(NamedTuple):
    """The length of one output.

    Attributes:
        tokens: Tokens until the answer; `None` where nobody counted them, or nothing was written.
        characters: Characters until the answer.
        steps: Steps of the thought; `None` where nothing was written.
        closed: Whether the model wrote `</think>`; `None` where no tags are expected.
        loops: Whether the output repeats itself without end.
        ended: Whether the thought ended, by the model or by force, or none was asked for.
    """

    tokens: int | None
    characters: int
    steps: int | None
    closed: bool | None
    loops: bool
    ended: bool = True


def ratio(part: float, whole: float) -> float | None:
    """`part / whole`, or `None` where there is nothing to divide by."""
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not `None`; `None` if there are no such values."""
    there = [float(value) for value in values if value is not None]
    return sum(there) / len(there) if there else None


def mean_over_records(verdicts: Iterable[tuple[int, bool | None]]) -> tuple[float | None, int]:
    """Mean over the records of the mean over their outputs, and the number of records; `None` and 0 without verdicts.

    Args:
        verdicts: Number of the record, and the verdict on an output; outputs without one are left out.
    """
    found: dict[int, list[bool]] = defaultdict(list)
    for record, verdict in verdicts:
        if verdict is not None:
            found[record].append(verdict)
    return mean(mean(samples) for samples in found.values()), len(found)


def wilson_interval(proportion: float, count: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval for a proportion; unlike the normal one it is right for few trials and near 0 and 1.

    Formula: E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 209-212.

    Args:
        proportion: What was observed, in [0, 1].
        count: Number of independent trials, at least 1.
        z: Normal quantile; the default gives 95%.
    """
    square = z * z / count
    centre = (proportion + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(proportion * (1 - proportion) / count + square / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def normalise_answer(text: str) -> str:
    """An answer for comparison letter by letter: NFKC, lower case, no white space, no final punctuation."""
    text = "".join(unicodedata.normalize("NFKC", text).lower().split())
    return _EDGES.sub("", text)


# An evaluation asks for the same verdict several times (predictions, accuracy, distractors, votes), and one that the
# clock has cut short must not change in between.
@lru_cache(maxsize=2**14)
def answer_correct(answer: str, reference: str) -> bool | None:
    """Whether `answer` says what `reference` says; `None` if there is no reference.

    Numbers, formulas and choices are verified (`hf_reason.answers.verify.answers_match`). What cannot be verified is
    compared letter by letter after `normalise_answer`: the final part of the answer (`final_part`), or all of it.
    """
    if not reference.strip():
        return None
    if not answer.strip():
        return False
    verdict = answers_match(answer, reference)
    if verdict is not None:
        return verdict
    wanted = {normalise_answer(reference), normalise_answer(final_part(reference)[0])} - {""}
    return normalise_answer(answer) in wanted or normalise_answer(final_part(answer)[0]) in wanted


def output_answer(output: str) -> str:
    """The answer in a model's output: what follows the thought; empty if the thought was not closed."""
    return parse(output).answer


def answer_verdicts(outputs: Iterable[str], references: Iterable[str]) -> list[bool | None]:
    """`answer_correct` of the answer in each output; `None` where there is no reference."""
    return [answer_correct(output_answer(text), answer) for text, answer in zip(outputs, references, strict=True)]


def is_closed(output: str) -> bool:
    """Whether `</think>` was written. An answer without any thought has closed none."""
    return bool(split_completion(output)[1])


def thought_part(output: str) -> str:
    """`output` up to and including `</think>`: what the reader waits for. All of it when never closed.

    Empty for an output that answers without a thought.
    """
    head, tag, _ = split_completion(output)
    if tag or not parse(output).closed:
        return head + tag
    return ""


def is_loop(output: str, steps: Sequence[str]) -> bool:
    """Whether an output repeats itself without end: by its text without the tags, or by its steps."""
    text = output.replace(OPEN_TAG, "").replace(CLOSE_TAG, "")
    return repetition(text) > LOOP_THRESHOLD or repeated_steps(list(steps)) > LOOP_THRESHOLD


def _equation_values(equation: Equation) -> set[Fraction]:
    """The result as it is written and, where the equation holds, as it is exactly (3.33 and 10/3)."""
    values = {equation.value} if equation.holds else set()
    with suppress(ValueError):  # a division with remainder, "3……2", is no number
        values.add(evaluate_expression(equation.result))
    return values


def key_results(steps: Iterable[str]) -> list[frozenset[Fraction]]:
    """The results of the equations in `steps`, in order, each once: a reference's key nodes.

    Each result is the set of values that count as it, for a rounded result has two.
    """
    found: list[frozenset[Fraction]] = []
    for step in steps:
        for equation in find_equations(step):
            values = frozenset(_equation_values(equation))
            if values and not any(values & known for known in found):
                found.append(values)
    return found


def _score_step(equations: list[Equation], expected: set[Fraction]) -> tuple[bool, bool]:
    holds = all(equation.holds for equation in equations)
    return holds, holds and (not expected or bool(_equation_values(equations[-1]) & expected))


def score_steps(steps: Sequence[str], reference_steps: Sequence[str]) -> StepScore:
    """Count the right steps of one output.

    A step with equations is correct when all of them hold and the result of the last one is among the key
    results of the reference. Where the reference has no equation at all, holding is enough. The order of the
    steps does not matter, and a right step on another route than the reference counts as wrong.

    Args:
        steps: The output's steps.
        reference_steps: The reference's steps; empty if there is none.
    """
    expected = set().union(*key_results(reference_steps))
    distinct = list(dict.fromkeys(steps))
    verdicts = [_score_step(found, expected) for found in map(find_equations, distinct) if found]
    holding, correct = (sum(column) for column in zip(*verdicts, strict=True)) if verdicts else (0, 0)
    return StepScore(len(distinct), len(verdicts), holding, correct)


def numbers_in(text: str) -> set[Fraction]:
    """The values that `text` states: its numbers, fractions p/q and percentages, and its equations' results."""
    found: set[Fraction] = set()
    for match in _NUMBER.finditer(text):
        # 3/4 may be the fraction or a division in progress: it states 3/4, and 3, and 4.
        for part in {match.group(), *re.split(r"\s*/\s*", match.group())}:
            with suppress(ValueError):
                found.add(evaluate_expression(part))
    return found.union(*map(_equation_values, find_equations(text)))


def key_coverage(steps: Sequence[str], reference_steps: Sequence[str]) -> tuple[int, int]:
    """How many of the reference's key results occur as a number in `steps`, and how many there are."""
    wanted = key_results(reference_steps)
    stated: set[Fraction] = set().union(*map(numbers_in, steps))
    return sum(bool(values & stated) for values in wanted), len(wanted)


def length_figures(tokens: Sequence[int]) -> dict[str, float | None]:
    """Mean, median and 95th percentile (nearest rank) of the lengths; `None`s where there are none."""
    ordered = sorted(tokens)
    return {
        "mean_tokens": mean(ordered),
        "median_tokens": float(statistics.median(ordered)) if ordered else None,
        "p95_tokens": float(ordered[math.ceil(0.95 * len(ordered)) - 1]) if ordered else None,
    }
