"""Pairs of a right and a wrong step, to train verification on: only the step differs, and rules say which is wrong."""

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from hf_reason.answers.equations import format_number
from hf_reason.rewards.step_judge import FALSE, FOREIGN, HOLDS, equations_of, judge_steps
from hf_reason.text.render import OPEN_TAG, step_texts, user_text

from .operation import Made, check_fraction

KINDS = ("result", "number")
_TRIES = 24
_NUMBER = re.compile(r"(?<![\d.,/^_A-Za-z])\d+(?:\.\d+)?(?![\d/^_A-Za-z]|[.,]\d)", re.ASCII)
# The last "= number" of a step.
_RESULT = re.compile(r"[=＝]\s*(?P<number>\d+(?:\.\d+)?)(?![\d/^_A-Za-z%‰万亿]|[.,]\d)", re.ASCII)


class StepPairs:
    """Rows with a right step and the same step made wrong, in TRL's preference format.

    Two kinds of mistakes, in turn where both can be made: `result`, an equation that does not hold; `number`, an
    equation that holds with a number that comes from nowhere. The step before them are right. `hf_reason.rewards`
    judges both steps: the right one must hold, and the wrong one must be judged as what it was made to be.

    Args:
        fraction: Of the training records.
        pairs: Most pairs of a record.

    Raises:
        ValueError: for a value out of range.
    """

    name, file = "step_pairs", "step_pairs.jsonl"

    def __init__(self, fraction: float = 1.0, *, pairs: int = 2) -> None:
        self.fraction = check_fraction("step_pairs", fraction)
        if pairs < 1:
            raise ValueError(f"pairs_per_record must be at least 1, got {pairs}.")
        self.pairs = pairs

    def settings(self) -> dict[str, Any]:
        """What shapes its rows."""
        return {"pairs": self.pairs}

    def prepare(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Nothing takes long."""

    def apply(self, record: Mapping[str, Any], seed: int) -> list[Made] | str:
        """The pairs; why there are none."""
        if record.get("images"):
            return "has images, which pairs of texts do not"
        steps, problem = list(record["steps"]), f"{record['context']}\n{record.get('task') or ''}".strip()
        verdicts = judge_steps(steps, problem, record["answer"])
        right = [place for place, verdict in enumerate(verdicts) if verdict == HOLDS]
        # what follows a wrong step says nothing about steps
        wrong = next((place for place, verdict in enumerate(verdicts) if verdict in (FALSE, FOREIGN)), len(steps))
        right = [place for place in right if place < wrong]
        if not right:
            return "no step that is known to be right"
        rng = random.Random(seed)
        rng.shuffle(right)
        rows: list[Made] = []
        for place in right:
            if len(rows) == self.pairs:
                break
            kinds = KINDS if rng.random() < 0.5 else KINDS[::-1]
            found = next(
                (made for kind in kinds if (made := wrong_step(steps[: place + 1], problem, kind, rng))), None
            )
            if found is not None:
                rows.append(Made(_row(record, place, *found), f"step {place + 1}: {found[1]}"))
        return sorted(rows, key=lambda made: made.row["step"]) or "no step could be made wrong"


def wrong_step(steps: list[str], problem: str, kind: str, rng: random.Random) -> tuple[str, str] | None:
    """The last step, made wrong.

    Args:
        steps: Right steps; the last one is the one in question.
        problem: The problem.
        kind: One of `KINDS`.
        rng: Chooses the mistake.

    Returns:
        The wrong step and `kind`; `None` where no mistake of that kind can be made that is certainly one.
    """
    step, before = steps[-1], steps[:-1]
    wanted = FALSE if kind == "result" else FOREIGN
    tries = _wrong_results(step, rng) if kind == "result" else _wrong_numbers(step, rng)
    for text in islice(tries, _TRIES):
        if text != step and judge_steps([*before, text], problem)[-1] == wanted:
            return text, kind
    return None


def _mistakes(number: str) -> list[str]:
    """Results that are written by mistake: off by one, a carry lost, digits exchanged, a zero too many."""
    whole, _, decimals = number.partition(".")
    value, unit = int(whole + decimals), len(decimals)
    found = {value + 1, value - 1, value + 10, value - 10, value + 2, value * 10, int(str(value)[::-1])}
    texts = []
    for other in sorted(found - {value}):
        if other > 0:
            digits = str(other).rjust(unit + 1, "0")
            texts.append(f"{digits[:-unit]}.{digits[-unit:]}" if unit else digits)
    return texts


def _wrong_results(step: str, rng: random.Random) -> Iterator[str]:
    """The step with another result, also where it is said again after it."""
    if not (places := list(_RESULT.finditer(step))):
        return
    start, number = places[-1].start("number"), places[-1]["number"]
    head, tail = step[:start], step[start:]
    mistakes = _mistakes(number)
    rng.shuffle(mistakes)
    for other in mistakes:
        yield head + re.sub(rf"(?<![\d.,]){re.escape(number)}(?!\d|[.,]\d)", other, tail)


def _wrong_numbers(step: str, rng: random.Random) -> Iterator[str]:
    """The step with another number in its only equation, and the result that follows from it."""
    places = list(_RESULT.finditer(step))
    if len(places) != 1 or len(equations_of(step)) != 1:
        return
    head, number, tail = step[: places[0].start("number")], places[0]["number"], step[places[0].end("number") :]
    if re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d|[.,]\d)", tail):
        return
    changes = [
        (match, rng.randint(11, max(99, 2 * int(float(match[0])))))
        for match in _NUMBER.finditer(head)
        for _ in range(8)
    ]
    rng.shuffle(changes)
    for match, other in changes:
        changed = f"{head[: match.start()]}{other}{head[match.end() :]}"
        equations = equations_of(changed + number + tail)
        if len(equations) != 1 or equations[0].value <= 0:
            continue
        result = format_number(equations[0].value)
        # a fraction where whole numbers are would tell which step is wrong
        if result.isdigit() or ("." in head + number and re.fullmatch(r"\d+\.\d{1,4}", result)):
            yield changed + result + tail


def _row(record: Mapping[str, Any], place: int, wrong: str, kind: str) -> dict[str, Any]:
    steps = list(record["steps"])

    def turn(step: str) -> list[dict[str, str]]:
        text = "\n".join([OPEN_TAG, *step_texts([*steps[:place], step])])
        return [{"role": "assistant", "content": text}]

    return {
        "prompt": [{"role": "user", "content": user_text(record)}],
        "chosen": turn(steps[place]),
        "rejected": turn(wrong),
        "id": f"{record['id']}-{place + 1}",
        "step": place + 1,
        "previous": steps[:place],
        "right": steps[place],
        "wrong": wrong,
        "mistake": kind,
        "domain": record.get("domain") or "general",
        "language": record.get("language") or "",
    }
