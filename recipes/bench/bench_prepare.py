"""Throughput and memory of `prepare` on synthetic traces, and what it finds of the faults planted in them.

python recipes/bench/bench_prepare.py --records 25000 --num_proc 1 2

Traces have about 2,000 characters, a tenth with a planted fault (`prepare_corpus.py`). Recall is the fraction of the
planted ones that are dropped, precision the fraction of the dropped ones that were planted. Each measurement runs in a
process of its own, at N and 4N records; the peak is that of the largest process. "CPU s" is over all processes, and
tells a slow machine from a busy one; with several processes it includes starting them.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import common
from prepare_corpus import KINDS, kind_of, write_traces


def measure(source: Path, num_proc: int, engine: str) -> dict[str, float]:
    """Prepare `source` in a process of its own."""
    with tempfile.TemporaryDirectory() as output:
        return common.in_own_process(__file__, "--measure", source, output, num_proc, engine)


def measured(source: str, output: str, num_proc: str, engine: str) -> None:
    from hf_reason.data import prepare

    with tempfile.TemporaryDirectory() as folder:  # imports and first calls are not what is measured
        warm_up = Path(folder, "warm_up.jsonl")
        write_traces(warm_up, 20)
        prepare(warm_up, Path(folder, "out"), progress=False)
    start, start_cpu = time.perf_counter(), _cpu_seconds()
    report = prepare(source, output, num_proc=int(num_proc), engine=engine, progress=False)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - start_cpu
    counts = report["counts"]
    found = {"seconds": seconds, "cpu": cpu, "rate": counts["in"] / seconds, "peak": peak_mb()}
    print(json.dumps(found | quality(counts["in"], kept_rows(output))))


def kept_rows(folder: str) -> set[int]:
    from datasets import load_from_disk

    splits = load_from_disk(folder).values()
    return {int(source.rpartition("#")[2]) - 1 for split in splits for source in split["source"]}


def quality(records: int, kept: set[int]) -> dict[str, float]:
    """Recall of each kind of fault, and the precision of all."""
    gone = [number for number in range(records) if number not in kept]
    recall = {}
    for kind in KINDS:
        rows = [number for number in range(records) if kind_of(number) == kind]
        recall[kind] = sum(number not in kept for number in rows) / max(1, len(rows))
    return recall | {"precision": sum(kind_of(number) is not None for number in gone) / max(1, len(gone))}


def peak_mb() -> float:
    """The peak of the largest of this process and of those it has waited for."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--records", type=int, default=4000, help="N; both are measured at N and 4N.")
    parser.add_argument("--num_proc", type=int, nargs="+", default=[1, 2], help="Numbers of processes to compare.")
    parser.add_argument("--engines", nargs="+", default=["local"], choices=["local", "ray"])
    arguments = parser.parse_args()
    rows: list[Sequence[str]] = []
    peaks: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for records in (arguments.records, 4 * arguments.records):
            source = Path(folder, f"{records}.jsonl")
            size = write_traces(source, records)
            for engine in arguments.engines:
                for num_proc in arguments.num_proc:
                    found = measure(source, num_proc, engine)
                    peaks.setdefault((engine, num_proc), []).append(found["peak"])
                    numbers = [f"{found[name]:,.1f}" for name in ("seconds", "cpu", "rate", "peak")]
                    rates = [f"{found[name]:.1%}" for name in (*KINDS, "precision")]
                    rows.append([f"{records:,}", f"{size:,.0f}", engine, str(num_proc), *numbers, *rates])
    columns = ["records", "MB", "engine", "processes", "seconds", "CPU s", "records/s", "peak MB"]
    common.print_markdown([*columns, *(f"recall: {kind}" for kind in KINDS), "precision"], rows)
    for (engine, num_proc), (small, large) in peaks.items():
        grown = (large - small) * 1e6 / (3 * arguments.records)
        print(f"{engine}, {num_proc} processes: the peak grew by {grown:,.0f} bytes a record.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measured(*sys.argv[2:])
    else:
        main()
