"""A generator of Chinese word problems of 2 to 6 operations with a verified step for each operation.

The problems are the project's own small world for demos, ablations and tests: each is a story about a
quantity that changes, told by templates, and every step carries one equation that holds by construction.

    python -m hf_reason.data.word_problems --num 20000 --output problems.jsonl
"""

import argparse
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIN_OPERATIONS, MAX_OPERATIONS = 2, 6
# Results stay in this range: the arithmetic of one step is meant to be learnable, the chain is what is hard.
_LOW, _HIGH = 2, 100

_NAMES = ("小明", "小红", "小刚", "小丽", "小华", "小芳", "王老师", "李叔叔", "张阿姨", "陈师傅")
_ITEMS = (
    ("苹果", "个"), ("鸡蛋", "个"), ("面包", "个"), ("铅笔", "支"), ("钢笔", "支"), ("练习本", "本"), ("图书", "本"),
    ("邮票", "张"), ("卡片", "张"), ("桌子", "张"), ("树苗", "棵"), ("白菜", "棵"), ("大米", "千克"), ("面粉", "千克"),
    ("彩带", "米"), ("布料", "米"),
)  # fmt: skip
_GAIN = ("又买来{n}{u}", "又收到{n}{u}", "又运来{n}{u}", "朋友送来{n}{u}", "接着增加了{n}{u}")
_LOSS = ("卖出{n}{u}", "用去{n}{u}", "送给别人{n}{u}", "后来坏了{n}{u}", "借出{n}{u}")
_TIMES = ("数量变成原来的{n}倍", "后来的{i}是这时的{n}倍", "重新进货后达到现有的{n}倍")
_SHARE = ("平均分成{n}份,留下其中1份", "平均装进{n}个箱子,只留1箱", "平均分给{n}个小组,自己是其中1组")


@dataclass
class _Story:
    """A story while it is told: the sentences, the steps and the quantity at hand."""

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
    """One operation on the quantity, chosen among those that keep it in range."""
    value, choices = story.value, ["+", "-"]
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
        operand, template, label = rng.randint(2, min(99, _HIGH - value)), rng.choice(_GAIN), "增加后"
    elif sign == "-":
        operand, template, label = rng.randint(2, min(99, value - _LOW)), rng.choice(_LOSS), "减少后"
    elif sign == "×":
        operand, template, label = rng.choice(factors), rng.choice(_TIMES), "变成几倍"
    else:
        operand, template, label = rng.choice(divisors), rng.choice(_SHARE), "平均分后"
    story.sentences.append(template.format(n=operand, u=story.unit, i=story.item))
    story.compute(label, sign, operand)


def _opening(rng: random.Random) -> _Story:
    """Start a story, with an operation (so many boxes of so much) in half of the cases."""
    name, (item, unit) = rng.choice(_NAMES), rng.choice(_ITEMS)
    if rng.random() < 0.5:
        value = rng.randint(5, 99)
        return _Story(name, item, unit, value, [f"{name}有{value}{unit}{item}"], [])
    each = rng.randint(3, 20)
    boxes = rng.randint(2, min(9, _HIGH // each))
    story = _Story(name, item, unit, each, [f"{name}有{boxes}箱{item},每箱{each}{unit}"], [])
    story.compute("原来共有", "×", boxes)
    return story


def _closing(story: _Story, rng: random.Random) -> str:
    """End a story by a comparison with a second person (two operations); returns the question."""
    other = rng.choice([name for name in _NAMES if name != story.name])
    mine = story.value
    more = rng.random() < 0.5 or mine < 2 * _LOW
    sign, word = ("+", "多") if more else ("-", "少")
    operand = rng.randint(1, 30 if more else min(30, mine - _LOW))
    story.sentences.append(f"{other}比{story.name}{word}{operand}{story.unit}")
    story.compute(f"{other}有", sign, operand)
    story.compute("两人一共", "+", mine)
    return f"两人一共有多少{story.unit}{story.item}?"


def word_problem(num_operations: int, rng: random.Random) -> dict:
    """One problem as a raw trace in the article's layout.

    Args:
        num_operations: Number of arithmetic operations (and of steps), 2 to 6.
        rng: Source of randomness.

    Returns:
        A row with `context`, `task_desc`, `steps` (one equation each), `answer` (number and unit) and `domain`.
    """
    if not MIN_OPERATIONS <= num_operations <= MAX_OPERATIONS:
        raise ValueError(f"num_operations must be {MIN_OPERATIONS} to {MAX_OPERATIONS}, got {num_operations}.")
    while True:
        story = _opening(rng)
        compares = rng.random() < 0.3
        while len(story.steps) < num_operations - 2 * compares:
            _change(story, rng)
        question = f"现在有多少{story.unit}{story.item}?"
        if compares:
            question = _closing(story, rng)
        # an opening that multiplies and a comparison can together overshoot the number asked for
        if len(story.steps) == num_operations:
            return {
                "context": ",".join(story.sentences) + "。" + question,
                "task_desc": "",
                "steps": story.steps,
                "answer": f"{story.value}{story.unit}",
                "domain": "math",
            }


def generate_word_problems(
    num: int, seed: int = 0, min_operations: int = MIN_OPERATIONS, max_operations: int = MAX_OPERATIONS
) -> Iterator[dict]:
    """`num` different problems; the number of operations is uniform between the two bounds."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < num:
        row = word_problem(rng.randint(min_operations, max_operations), rng)
        if row["context"] not in seen:
            seen.add(row["context"])
            yield row


def write_word_problems(path: str | Path, num: int, seed: int = 0) -> Path:
    """Write `num` problems as JSON Lines; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in generate_word_problems(num, seed))
    os.replace(partial, path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    print(write_word_problems(args.output, args.num, args.seed))


if __name__ == "__main__":
    main()
