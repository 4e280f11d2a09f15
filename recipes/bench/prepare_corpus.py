"""Synthetic Chinese traces for `bench_prepare.py`, some of them with a planted fault.

    python recipes/bench/prepare_corpus.py corpus.jsonl --records 100000

Each trace has about 2,000 characters and its number in the problem. A tenth are planted: copies in another layout,
copies with a few other words, chains that end in a loop, answers that were cut, and chains that go on in English.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path


def words(text: str) -> list[str]:
    return text.split()


_WORDS = words(
    """
    数量 速度 价格 面积 体积 利率 温度 比例 时间 距离 总数 平均 增加 减少 变化 关系 条件 结果 方程 图形
    合同 判决 病人 症状 剂量 细胞 反应 分子 电路 算法 函数 数组 循环 历史 文学 朝代 作者 市场 成本 利润
    税款 证据 责任 样本 误差 概率 分布 极限 导数
    """
)
_OPENERS = ("首先", "其次", "然后", "接下来", "等等", "另外", "因此", "再检查一遍", "换一种方法", "最后")


_ENGLISH = words(
    """
    the value follows from what we know about price and speed then each part adds to it which gives the total that was
    asked for now check whether this result makes sense because every condition of the problem must hold at once so
    """
)
STEPS = 27
KINDS = ("exact copy", "near copy", "loop", "cut answer", "other language")
PLANTED = 0.1


def synthetic_trace(number: int, steps: int = STEPS) -> dict[str, str]:
    """A trace in the layout of Chinese-DeepSeek-R1-Distill-data-110k: about 73 characters a step."""
    rng = random.Random(number)

    def some(count: int) -> str:
        return "".join(rng.choices(_WORDS, k=count))

    chain = []
    value = rng.randrange(10, 1000)
    for step in range(steps):
        other = rng.randrange(2, 100)
        equation = f"{value}+{other}={value + other}"
        chain.append(f"{_OPENERS[step % 10]},由{some(9)}可知{some(8)}。这里{equation},{some(10)}。")
        value += other
    question = f"已知{some(12)},初始为{number},求{some(8)}的{some(3)}是多少?"
    return {"input": question, "reasoning_content": "\n\n".join(chain), "content": f"答案是{value}。"}


def planted(number: int, kind: str) -> dict[str, str]:
    """The trace of that number with a fault; a copy is of an earlier one."""
    rng = random.Random(-number)
    if kind.endswith("copy"):
        trace = synthetic_trace(10 * rng.randrange(number // 10))  # one without a fault
        chain = trace["reasoning_content"]
        if kind == "exact copy":  # as another tool writes it: full-width signs, other line ends
            chain = chain.replace(",", "，").replace("\n\n", "\n")
        else:
            parts = chain.split("\n\n")
            for place in rng.sample(range(len(parts)), 2):
                parts[place] = parts[place].replace("可知", "我们就能知道")
            chain = "\n\n".join(parts)
        return trace | {"reasoning_content": chain}
    trace = synthetic_trace(number)
    parts = trace["reasoning_content"].split("\n\n")
    if kind == "loop":
        parts = parts[: STEPS // 2] + [parts[STEPS // 2]] * (STEPS // 2)
    elif kind == "other language":
        parts = parts[: STEPS // 2]
        parts += [" ".join(rng.choices(_ENGLISH, k=14)).capitalize() + "." for _ in range(STEPS // 2)]
    elif kind == "cut answer":
        return trace | {"content": f"{trace['input']}根据上面的计算,最后的结果等于各部分的总和,因为"}
    return trace | {"reasoning_content": "\n\n".join(parts)}


def kind_of(number: int) -> str | None:
    """What is planted in a trace: every tenth one, from the second hundred on."""
    return KINDS[number // 10 % len(KINDS)] if number % 10 == 9 and number > 100 else None


def corpus(records: int) -> Iterator[dict[str, str]]:
    """The traces in order."""
    for number in range(records):
        kind = kind_of(number)
        yield synthetic_trace(number) if kind is None else planted(number, kind)


def write_traces(path: Path, records: int) -> float:
    """Write the file; returns its size in MB."""
    with open(path, "w", encoding="utf-8") as file:
        for trace in corpus(records):
            file.write(json.dumps(trace, ensure_ascii=False) + "\n")
    return path.stat().st_size / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--records", type=int, default=100_000)
    arguments = parser.parse_args()
    print(f"{write_traces(arguments.output, arguments.records):,.1f} MB")
