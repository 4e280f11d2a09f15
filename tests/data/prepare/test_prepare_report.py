"""The report of a preparation: figures against hand-worked ones, escaping, the same bytes each time."""

from array import array
from collections import Counter

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hf_reason.data.prepare.counts import DROP_REASONS, Counts, FileCounts, excerpt
from hf_reason.data.prepare.report import build_report, write_report
from hf_reason.data.prepare.report_page import report_html
from hf_reason.data.prepare.report_plot import _draw_histogram, draw_report
from hf_reason.data.prepare.report_stats import RecordStats, describe

SPLITS = ["train", "validation", "test"]


def record(steps: int, domain: str = "math") -> dict:
    texts = {"id": f"{steps:016x}", "context": "题目" * 5, "task": "", "steps": ["计算"] * steps, "answer": "42"}
    return texts | {"domain": domain, "language": "zh"}


def small_report(answer: str = "42") -> dict:
    stats = RecordStats()
    for steps, split in ((3, "train"), (5, "train"), (4, "test")):
        stats.add(record(steps), split)
    counts = Counts({"a.jsonl": FileCounts(5, 3, Counter(unreadable=1, exact_duplicate=1))})
    counts.examples["exact_duplicate"] = [[1, {"source": "a.jsonl#2", "context": "c", "chain": "s", "answer": answer}]]
    counts.examples["unreadable"] = [[1, {"note": "row 3 is no JSON"}]]
    return build_report(counts, stats.summary(SPLITS), {"history": "drop"}, "f" * 16)


def test_figures():
    report = small_report()
    assert report["counts"]["in"] == 5 and report["counts"]["out"] == 3
    assert list(report["counts"]["filters"]) == list(DROP_REASONS)
    assert report["splits"] == {"train": 2, "validation": 0, "test": 1}
    assert report["domains"]["math"] == {"all": 3, "train": 2, "validation": 0, "test": 1}
    steps = report["distributions"]["steps"]
    assert (steps["mean"], steps["min"], steps["p50"], steps["max"]) == (4.0, 3, 4, 5)
    assert steps["histogram"] == {"edges": [3, 4, 5, 6], "counts": [1, 1, 1], "over": 0}
    assert report["distributions"]["chain"]["p50"] == 8 and report["distributions"]["context"]["mean"] == 10
    none, one = report["warnings"]
    assert none == (
        "The validation split has no records, so nothing is measured on it. Raise validation_size (--validation_size)."
    )
    assert one == "The test split has only 1 record: scores on it will be noisy. Raise test_size (--test_size)."


def test_a_lost_record_is_a_bug():
    with pytest.raises(AssertionError, match="a.jsonl: 4 read, but 3 kept and 0 dropped"):
        build_report(Counts({"a.jsonl": FileCounts(4, 3)}), RecordStats().summary(SPLITS), {}, "")
    # Also where the sum over the files is right.
    one_each = Counts({"a.jsonl": FileCounts(2, 1), "b.jsonl": FileCounts(1, 2)})
    with pytest.raises(AssertionError, match="a.jsonl: 2 read, but 1 kept"):
        build_report(one_each, RecordStats().summary(SPLITS), {}, "")


def test_histogram_counts_everything_once_and_shows_the_tail():
    found = describe(array("I", [*range(1000), *[50_000] * 5]))
    histogram = found["histogram"]
    assert sum(histogram["counts"]) + histogram["over"] == 1005
    assert histogram["over"] == 5 and histogram["edges"][1] - histogram["edges"][0] == 50
    assert found["p50"] == 502 and found["max"] == 50_000
    assert describe(array("I")) == {}
    assert describe(array("I", [7]))["histogram"] == {"edges": [7, 8], "counts": [1], "over": 0}


def test_page_escapes_the_data():
    report = small_report(answer="</dd><script>alert('题')</script>")
    page = report_html(report, b"png")
    assert page.count("<script") == 1  # the page's own
    assert "&lt;script&gt;alert(&#39;题&#39;)" in page
    assert "row 3 is no JSON" in page


def test_same_report_same_bytes_and_no_version_inside(tmp_path):
    report = small_report()
    picture = draw_report(report)
    assert picture == draw_report(report)
    assert b"Software" not in picture and b"matplotlib" not in picture
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_report(report, tmp_path / name)
    for name in ("report.json", "report.html", "report.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_ticks_of_a_single_value_differ():
    axis = Figure().subplots()
    _draw_histogram(axis, {"distributions": {"steps": describe(array("I", [3] * 9))}}, "steps", "Steps", "steps")
    FigureCanvasAgg(axis.figure).draw()
    left, right = axis.get_xlim()
    shown = [label.get_text() for label in axis.get_xticklabels() if left <= label.get_position()[0] <= right]
    assert "3" in shown and len(set(shown)) == len(shown) > 2


def test_nothing_left_can_be_drawn():
    counts = Counts({"a.jsonl": FileCounts(2, 0, Counter(near_duplicate=2))})
    report = build_report(counts, RecordStats().summary(SPLITS), {}, "")
    assert report["warnings"] == ["near_duplicate dropped 2 of 2 traces. Look at its examples first."]
    assert draw_report(report).startswith(b"\x89PNG")
    assert "Nothing was dropped" in report_html(report, b"")


def test_excerpt_keeps_head_and_tail():
    assert excerpt(" 短\n文 ") == "短 文"
    long = excerpt("头" * 200 + "尾" * 200, 5, 3)
    assert long == "头头头头头 … 尾尾尾"


def test_counts_merge_in_order():
    first, second = Counts(), Counts()
    first.drop("near_duplicate", "a.jsonl#1", {"n": "1"})
    for number in "234":
        second.drop("near_duplicate", f"b.jsonl#{number}", {"n": number})
    first.merge(second)
    assert first.dropped["near_duplicate"] == 4
    assert first.files["b.jsonl"].dropped["near_duplicate"] == 3
    assert Counts.from_dict(first.to_dict()) == first
    assert sorted(example["n"] for example in first.samples("near_duplicate")) == ["1", "2", "3", "4"]
