"""A generator of Chinese word problems of 2 to 6 operations, with a verified step for each operation.

The problems are for demos, ablations and tests: each is a story about a quantity that changes, written from
templates, and every step has one equation that holds by construction.

    python -m hf_reason.data.synthetic.word_problems --num 20000 --output problems.jsonl
"""

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hf_reason._files import write_atomically

MIN_OPERATIONS, MAX_OPERATIONS = 2, 6
# Results stay in this range, so that the arithmetic of one step is easy to learn and the chain is what is hard.
_LOW, _HIGH = 2, 100


@dataclass(frozen=True)
class _World:
    """The words of one domain. The arithmetic is the same in all domains.

    They stand in `word_problems.yaml`.

    Attributes:
        names: The people or companies of the stories.
        items: What is counted, each with its unit.
        opening: The first quantity. `boxes`: the same as a number of equal parts.
        gain, loss, times, portion: Sentences of one operation.
        labels: What the steps call the four operations, and the opening that multiplies.
        comparison: How the quantity of a second person is given. `total`: what the steps call the sum.
        question: The question, and `total_question` after a comparison.
    """

    names: list[str]
    items: list[tuple[str, str]]
    opening: str
    boxes: str
    gain: list[str]
    loss: list[str]
    times: list[str]
    portion: list[str]
    labels: dict[str, str]
    comparison: str
    total: str
    question: str
    total_question: str


def _read_worlds() -> dict[str, _World]:
    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return {domain: _World(**words) for domain, words in yaml.safe_load(text).items()}


_WORLDS = _read_worlds()


@dataclass
class _Story:
    """A story while it is written: its sentences, its steps and the current quantity."""

    world: _World
    name: str
    item: str
    unit: str
    value: int
    sentences: list[str]
    steps: list[str]

    def compute(self, label: str, sign: str, operand: int) -> None:
        result = {"+": self.value + operand, "-": self.value - operand, "×": self.value * operand}.get(sign)
        result = self.value // operand if result is None else result
        self.steps.append(f"{label}:{self.value}{sign}{operand}={result}{self.unit}")
        self.value = result


def _change(story: _Story, rng: random.Random) -> None:
    """Add one operation on the quantity, chosen among those that keep it in range."""
    world, value, choices = story.world, story.value, ["+", "-"]
    factors = [n for n in range(2, 10) if value * n <= _HIGH]
    divisors = [n for n in range(2, 10) if value % n == 0 and value // n >= _LOW]
    if factors:
        choices.append("×")
    if divisors:
        choices.append("÷")
    sign = rng.choice(choices)
    if sign == "+" and value + 2 > _HIGH:
        sign = "-"
    if sign == "-" and value - 2 < _LOW:
        sign = "+"
    if sign == "+":
        operand, template = rng.randint(2, min(99, _HIGH - value)), rng.choice(world.gain)
    elif sign == "-":
        operand, template = rng.randint(2, min(99, value - _LOW)), rng.choice(world.loss)
    elif sign == "×":
        operand, template = rng.choice(factors), rng.choice(world.times)
    else:
        operand, template = rng.choice(divisors), rng.choice(world.portion)
    story.sentences.append(template.format(n=operand, u=story.unit, i=story.item))
    story.compute(world.labels[sign], sign, operand)


def _opening(world: _World, rng: random.Random) -> _Story:
    """Start a story, with an operation (boxes times content) in half of the cases."""
    name, (item, unit) = rng.choice(world.names), rng.choice(world.items)
    if rng.random() < 0.5:
        value = rng.randint(5, 99)
        return _Story(world, name, item, unit, value, [world.opening.format(name=name, n=value, u=unit, i=item)], [])
    each = rng.randint(3, 20)
    boxes = rng.randint(2, min(9, _HIGH // each))
    told = world.boxes.format(name=name, boxes=boxes, n=each, u=unit, i=item)
    story = _Story(world, name, item, unit, each, [told], [])
    story.compute(world.labels["boxes"], "×", boxes)
    return story


def _closing(story: _Story, rng: random.Random) -> str:
    """End a story by a comparison with a second person (two operations); returns the question."""
    world = story.world
    other = rng.choice([name for name in world.names if name != story.name])
    mine = story.value
    more = rng.random() < 0.5 or mine < 2 * _LOW
    sign, word = ("+", "多") if more else ("-", "少")
    operand = rng.randint(1, 30 if more else min(30, mine - _LOW))
    story.sentences.append(world.comparison.format(other=other, name=story.name, word=word, n=operand, u=story.unit))
    story.compute(f"{other}有", sign, operand)
    story.compute(world.total, "+", mine)
    return world.total_question.format(u=story.unit, i=story.item)


def word_problem(num_operations: int, rng: random.Random, domain: str = "math") -> dict[str, Any]:
    """One problem as a raw trace in the article's layout.

    Args:
        num_operations: Number of arithmetic operations (and of steps), 2 to 6.
        rng: Source of randomness.
        domain: `"math"` (things that are counted) or `"finance"` (money in accounts): the same arithmetic in other
            words.

    Returns:
        A row with `context`, `task_desc`, `steps` (one equation each), `answer` (number and unit) and `domain`.
    """
    if not MIN_OPERATIONS <= num_operations <= MAX_OPERATIONS:
        raise ValueError(f"num_operations must be {MIN_OPERATIONS} to {MAX_OPERATIONS}, got {num_operations}.")
    if domain not in _WORLDS:
        raise ValueError(f"There are no word problems of the domain {domain!r}. There are: {', '.join(_WORLDS)}.")
    world = _WORLDS[domain]
    while True:
        story = _opening(world, rng)
        compares = rng.random() < 0.3
        while len(story.steps) < num_operations - 2 * compares:
            _change(story, rng)
        question = world.question.format(u=story.unit, i=story.item)
        if compares:
            question = _closing(story, rng)
        # an opening that multiplies and a comparison can together overshoot the number asked for
        if len(story.steps) == num_operations:
            return {
                "context": ",".join(story.sentences) + "。" + question,
                "task_desc": "",
                "steps": story.steps,
                "answer": f"{story.value}{story.unit}",
                "domain": domain,
            }


def generate_word_problems(
    num: int,
    seed: int = 0,
    min_operations: int = MIN_OPERATIONS,
    max_operations: int = MAX_OPERATIONS,
    domain: str = "math",
) -> Iterator[dict[str, Any]]:
    """`num` different problems; the number of operations is uniform between the two bounds."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < num:
        row = word_problem(rng.randint(min_operations, max_operations), rng, domain)
        if row["context"] not in seen:
            seen.add(row["context"])
            yield row


def write_word_problems(path: str | Path, num: int, seed: int = 0, domain: str = "math") -> Path:
    """Write `num` problems as JSON Lines; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = generate_word_problems(num, seed, domain=domain)
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--domain", choices=list(_WORLDS), default="math")
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    print(write_word_problems(args.output, args.num, args.seed, args.domain))


if __name__ == "__main__":
    main()
