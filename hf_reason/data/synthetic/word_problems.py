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

from hf_reason._files import write_atomically

MIN_OPERATIONS, MAX_OPERATIONS = 2, 6
# Results stay in this range, so that the arithmetic of one step is easy to learn and the chain is what is hard.
_LOW, _HIGH = 2, 100


@dataclass(frozen=True)
class _World:
    """The words of one domain. The arithmetic is the same in all domains.

    Attributes:
        names: The people or companies of the stories.
        items: What is counted, each with its unit.
        opening: The first quantity. `boxes`: the same as a number of equal parts.
        gain, loss, times, portion: Sentences of one operation.
        labels: What the steps call the four operations, and the opening that multiplies.
        comparison: How the quantity of a second person is given. `total`: what the steps call the sum.
        question: The question, and `total_question` after a comparison.
    """

    names: tuple[str, ...]
    items: tuple[tuple[str, str], ...]
    opening: str
    boxes: str
    gain: tuple[str, ...]
    loss: tuple[str, ...]
    times: tuple[str, ...]
    portion: tuple[str, ...]
    labels: dict[str, str]
    comparison: str
    total: str
    question: str
    total_question: str


_WORLDS = {
    "math": _World(
        names=("小明", "小红", "小刚", "小丽", "小华", "小芳", "王老师", "李叔叔", "张阿姨", "陈师傅"),
        items=(
            ("苹果", "个"),
            ("鸡蛋", "个"),
            ("面包", "个"),
            ("铅笔", "支"),
            ("钢笔", "支"),
            ("练习本", "本"),
            ("图书", "本"),
            ("邮票", "张"),
            ("卡片", "张"),
            ("桌子", "张"),
            ("树苗", "棵"),
            ("白菜", "棵"),
            ("大米", "千克"),
            ("面粉", "千克"),
            ("彩带", "米"),
            ("布料", "米"),
        ),
        opening="{name}有{n}{u}{i}",
        boxes="{name}有{boxes}箱{i},每箱{n}{u}",
        gain=("又买来{n}{u}", "又收到{n}{u}", "又运来{n}{u}", "朋友送来{n}{u}", "接着增加了{n}{u}"),
        loss=("卖出{n}{u}", "用去{n}{u}", "送给别人{n}{u}", "后来坏了{n}{u}", "借出{n}{u}"),
        times=("数量变成原来的{n}倍", "后来的{i}是这时的{n}倍", "重新进货后达到现有的{n}倍"),
        portion=("平均分成{n}份,留下其中1份", "平均装进{n}个箱子,只留1箱", "平均分给{n}个小组,自己是其中1组"),
        labels={"boxes": "原来共有", "+": "增加后", "-": "减少后", "×": "变成几倍", "÷": "平均分后"},
        comparison="{other}比{name}{word}{n}{u}",
        total="两人一共",
        question="现在有多少{u}{i}?",
        total_question="两人一共有多少{u}{i}?",
    ),
    "finance": _World(
        names=("甲公司", "乙公司", "丙银行", "丁基金", "赵经理", "钱会计", "孙股东", "周投资人"),
        items=(("存款", "元"), ("现金", "元"), ("国债", "元"), ("债券", "张"), ("外汇", "美元"), ("股票", "股")),
        opening="{name}账上记有{i}{n}{u}",
        boxes="{name}开立{boxes}个账户,每户存入{i}{n}{u}",
        gain=("当月入账{n}{u}", "收回贷款{n}{u}", "获得分红{n}{u}", "追加投资{n}{u}", "利息收入{n}{u}"),
        loss=("支付税款{n}{u}", "赎回{n}{u}", "偿还债务{n}{u}", "计提亏损{n}{u}", "扣除手续费{n}{u}"),
        times=("按{n}倍杠杆放大", "年末市值涨至{n}倍", "增资扩股到{n}倍"),
        portion=("由{n}位股东均分,取一位所得", "分{n}期等额摊销,计一期", "均摊到{n}个季度,取单季"),
        labels={"boxes": "合计本金", "+": "入账余额", "-": "支出余额", "×": "放大余额", "÷": "均摊余额"},
        comparison="{other}的金额较{name}{word}{n}{u}",
        total="双方合并",
        question="期末余额是多少{u}?",
        total_question="双方合并后是多少{u}?",
    ),
}


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
