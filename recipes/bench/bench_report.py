"""What the page of `hf-reason prepare`'s report costs, and how large it is, by the number of records.

    python recipes/bench/bench_report.py 10000 100000

Long records (about 2,000 characters, 30 steps with an equation each, all domains, both modes) and one dropped trace
for every two of them are given to the report as `prepare` gives them. Printed are the time that the page adds to each
record, the seconds at the end, and the page's size.
"""

import json
import random
import sys
import time

from hf_reason.data.prepare.counts import Counts, FileCounts, trace_example
from hf_reason.data.prepare.report import build_report
from hf_reason.data.prepare.report_page import report_html
from hf_reason.data.prepare.report_stats import RecordStats
from hf_reason.data.record import DOMAINS, RawTrace, make_record

_VARIETY = 400


def records() -> list:
    draw = random.Random(0)
    made = []
    for number in range(_VARIETY):
        a, b = draw.randrange(10, 99), draw.randrange(10, 99)
        result = a + b + (number % 7 == 0)
        step = f"我们把第{number}个数{a}和{b}相加,得到{a}+{b}={result},再检查一遍这个结果是不是合理,然后继续。"
        steps = [] if number % 5 == 0 else [f"{step}(第{k}步)" for k in range(30)]
        context = f"第{number}题:有{a}个苹果和{b}个梨,一共有多少个水果?" * 4
        made.append(make_record(context, steps, f"{a + b}个", domain=DOMAINS[number % len(DOMAINS)], source="a#1"))
    return made


def measure(count: int) -> None:
    some, draw = records(), random.Random(1)
    stats, plain = RecordStats(), RecordStats()
    plain.sample.add = lambda record, split: None  # type: ignore[method-assign]
    rows = [{**some[n % _VARIETY], "id": f"{draw.getrandbits(64):016x}"} for n in range(count)]
    seconds = []
    for target in (plain, stats):
        begin = time.perf_counter()
        for row in rows:
            target.add(row, "train")  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - begin)
    counts = Counts({"a": FileCounts(count, count)})
    trace = RawTrace("题" * 200, thought="想" * 2000, answer="答" * 100)
    begin = time.perf_counter()
    for number in range(count // 2):
        counts.add_read(f"a#{number}")
        counts.drop("few_steps", f"a#{number}", trace_example(trace))
    dropping = time.perf_counter() - begin
    report = build_report(counts, stats.summary(["train"]), {}, "")
    begin = time.perf_counter()
    examples = {reason: counts.samples(reason) for reason in report["examples"]}
    page = report_html(report, b"", examples, stats.sample)
    done = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "records": count,
                "microseconds_a_record": round(1e6 * (seconds[1] - seconds[0]) / count, 2),
                "microseconds_a_dropped_trace": round(1e6 * dropping / (count // 2), 2),
                "seconds_at_the_end": round(done, 2),
                "page_megabytes": round(len(page.encode()) / 1e6, 2),
            }
        )
    )


if __name__ == "__main__":
    for given in sys.argv[1:] or ["10000", "100000"]:
        measure(int(given))
