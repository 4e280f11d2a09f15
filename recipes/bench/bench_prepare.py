"""Throughput and memory of `prepare` on synthetic traces.

python recipes/bench/bench_prepare.py --records 4000 --num_proc 1 2

Each measurement runs in a process of its own. Memory is taken at N and 4N records: what grows are the duplicate
search's signatures, not the texts, so the growth is a small part of the growth of the file. "CPU s" is over all
processes, and tells a slow machine from a busy one; with several processes it includes starting them.
"""

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import common


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


def synthetic_trace(number: int, steps: int = 12) -> dict[str, str]:
    """A trace of about 900 characters in the layout of Chinese-DeepSeek-R1-Distill-data-110k."""
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


def write_traces(path: Path, records: int) -> float:
    """Write the file; returns its size in MB."""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(records):
            file.write(json.dumps(synthetic_trace(number), ensure_ascii=False) + "\n")
    return path.stat().st_size / 1e6


def measure(source: Path, num_proc: int) -> dict[str, float]:
    """Prepare `source` in a process of its own: records/s and peak memory (MB, of the main process)."""
    with tempfile.TemporaryDirectory() as output:
        return common.in_own_process(__file__, "--measure", source, output, num_proc)


def measured(source: str, output: str, num_proc: str) -> None:
    from hf_reason.data import prepare

    with tempfile.TemporaryDirectory() as folder:  # imports and first calls are not what is measured
        warm_up = Path(folder, "warm_up.jsonl")
        write_traces(warm_up, 20)
        prepare(warm_up, Path(folder, "out"), progress=False)
    start, start_cpu = time.perf_counter(), _cpu_seconds()
    report = prepare(source, output, num_proc=int(num_proc), progress=False)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - start_cpu
    counts = report["counts"]
    found = {"seconds": seconds, "cpu": cpu, "rate": counts["in"] / seconds, "out": counts["out"]}
    found["peak"] = common.peak_mb()
    print(json.dumps(found))


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--records", type=int, default=4000, help="N; memory is measured at N and 4N.")
    parser.add_argument("--num_proc", type=int, nargs="+", default=[1, 2], help="Numbers of processes to compare.")
    arguments = parser.parse_args()
    rows = []
    sizes: dict[int, float] = {}
    peaks: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for records in (arguments.records, 4 * arguments.records):
            source = Path(folder, f"{records}.jsonl")
            sizes[records] = write_traces(source, records)
            for num_proc in arguments.num_proc:
                found = measure(source, num_proc)
                peaks.setdefault(records, found["peak"])
                figures = (found[name] for name in ("seconds", "cpu", "rate", "peak", "out"))
                cells = (records, sizes[records], num_proc, *figures)
                rows.append([f"{cell:,.1f}" if isinstance(cell, float) else f"{cell:,}" for cell in cells])
    columns = ("records", "MB", "procs", "seconds", "CPU s", "rec/s", "peak MB", "kept")
    common.print_table("prepare on synthetic traces", columns, rows)
    small, large = peaks
    grown, file_grown = peaks[large] - peaks[small], sizes[large] - sizes[small]
    print(
        f"{arguments.num_proc[0]} process(es): the file grew by {file_grown:.1f} MB, the peak by {grown:.1f} MB: "
        f"{grown * 1e6 / (large - small):,.0f} bytes a record, {grown / file_grown:.0%} of the text."
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measured(*sys.argv[2:])
    else:
        main()
