"""The report's page: what it shows of records, filters and duplicates, escaped and bounded in size."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from hf_reason.data import FilterConfig, prepare
from hf_reason.data.clean.dedup import EXACT, NEAR, NEW, Duplicates
from hf_reason.data.prepare.counts import SAMPLES_EACH, Counts, clipped, on_one_line, trace_example
from hf_reason.data.prepare.report_marks import marked_pair, marked_step
from hf_reason.data.prepare.report_sample import PAIRS_EACH, SHOWN_EACH, TOKEN_RECORDS, ReportSample
from hf_reason.data.prepare.report_stats import RecordStats, mode_notes
from hf_reason.data.prepare.settings import DataError
from hf_reason.data.record import RawTrace, make_record

HOSTILE = '</script><script>document.title="x"</script><img src=x onerror="document.title=1">'


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = Counter(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.text.append(data)


def rows():
    """Traces with a chain and without one, one with a wrong equation, a near copy, and hostile texts."""
    good = []
    for n in range(1, 18):
        steps = [f"先看原来的数量,有{n + 20}个。", f"再看新买的,有{n}个。", f"合起来{n + 20}+{n}={2 * n + 20}个。"]
        question = f"小明有{n + 20}个苹果,又买来{n}个。他现在一共有多少个苹果?"
        good.append({"question": question, "reasoning": "\n\n".join(steps), "answer": f"{2 * n + 20}个"})
    wrong = dict(good[5], question="小红有7支铅笔,又买来8支。一共几支?", answer="十五支")
    wrong["reasoning"] = "原来7支。\n\n新买8支。\n\n合起来7+8=16支。"
    near = dict(good[7], reasoning=good[7]["reasoning"] + "完毕")
    hostile = {
        "question": f"请说明 {HOSTILE} 有什么问题?",
        "reasoning": f"这是一段脚本。\n\n它写成 {HOSTILE} 的样子。\n\n算一算3+4=7。",
        "answer": f"页面不应该执行 {HOSTILE} 这样的文字。",
    }
    short = dict(hostile, reasoning=f"只有一步 {HOSTILE}", question=f"再说一次 {HOSTILE}?")
    direct = [{"question": f"第{n}个首都叫什么名字?", "reasoning": "", "answer": f"叫第{n}城。"} for n in range(1, 30)]
    return [*good, wrong, near, hostile, short, *direct]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, _session_tokenizer):
    folder = tmp_path_factory.mktemp("page")
    # the name of a file is text of the page, too
    source = folder / "a<b>&c.jsonl"
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows()), encoding="utf-8")
    _session_tokenizer.save_pretrained(folder / "tokenizer")
    report = prepare(
        source,
        folder / "out",
        filters=FilterConfig(keep_non_thinking=True),
        tokenizer_name_or_path=str(folder / "tokenizer"),
        progress=False,
    )
    return folder, report, (folder / "out" / "report.html").read_text(encoding="utf-8")


def test_no_text_of_the_data_is_markup(prepared):
    _, _, text = prepared
    page = Page(text)
    assert page.tags["script"] == 1 and page.tags["img"] == 1 and "b" in page.tags
    assert not [one for one in page.attributes if one[1].startswith("on")]
    assert HOSTILE in "".join(page.text) and "a<b>&c.jsonl" in "".join(page.text)
    # nothing from outside, and no script but the page's own
    assert not [one for one in page.attributes if one[1] in ("src", "href") and not one[2].startswith(("data:", "#"))]
    policy = next(value for _, name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'") and re.search(r"script-src 'sha256-[\w+/=]{44}'", policy)


def test_the_page_has_every_part(prepared):
    _, report, text = prepared
    assert report["modes"]["without_chain"] == 29 and report["modes"]["with_chain"] == 19
    assert report["counts"]["filters"]["near_duplicate"] == 1 and report["counts"]["filters"]["few_steps"] == 1
    assert '<mark class="wrong">7+8=16</mark>' in text and '<li class="step wrong">' in text
    assert '<mark class="right">3+4=7</mark>' in text
    assert "<ins>" in text and "完毕" in text
    assert text.count('class="card"') == 19 + SHOWN_EACH
    assert 'data-mode="direct"' in text and 'data-verdict="wrong"' in text
    tokens = report["tokens"]
    assert (tokens["tokenizer"], tokens["records"]) == ("tokenizer", 48)
    whole = tokens["distributions"]["all"]["mean"]
    means = {name: found["mean"] for name, found in tokens["distributions"].items()}
    assert whole == pytest.approx(means["context"] + means["chain"] + means["answer"], abs=0.02)
    assert "In tokens of tokenizer, of 48 records" in text
    funnel = re.findall(r'removed-few_steps">.*?</tr>', text, re.DOTALL)[0]
    assert [int(n) for n in re.findall(r'class="n">(\d+)<', funnel)] == [50, 1, 49]


def test_the_same_page_whatever_the_chunks(prepared, tmp_path):
    folder, report, text = prepared
    options = {"filters": FilterConfig(keep_non_thinking=True), "tokenizer_name_or_path": str(folder / "tokenizer")}
    again = prepare(folder / "a<b>&c.jsonl", tmp_path / "out", chunk_size=7, progress=False, **options)
    assert again == report and (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == text


def test_a_tokenizer_that_is_not_there_is_refused_before_anything_is_read(prepared, tmp_path):
    folder, _, _ = prepared
    with pytest.raises(DataError, match="tokenizer_name_or_path nowhere/at-all: it cannot be loaded"):
        prepare(folder / "a<b>&c.jsonl", tmp_path / "out", tokenizer_name_or_path="nowhere/at-all", progress=False)
    assert not (tmp_path / "out").exists()


def test_the_page_does_not_grow_with_the_data():
    sample = ReportSample()
    many = [make_record(f"题目{n}" * 900, [f"第{k}步" * 300 for k in range(90)], "答" * 5000) for n in range(300)]
    for record in many:
        sample.add(record, "train")
    assert len(sample.records) == SHOWN_EACH and len(sample.measured) == 300 <= TOKEN_RECORDS
    shown = sample.records[0]
    assert (len(shown["steps"]), shown["left_out"], shown["count"]) == (40, 50, 90)
    assert max(map(len, (*shown["steps"], shown["context"], shown["answer"]))) < 1600
    # drawn by the hash of the record, whatever the order
    other = ReportSample()
    for record in reversed(many):
        other.add(record, "train")
    assert [one["context"] for one in other.records] == [one["context"] for one in sample.records]
    smallest = sorted(many, key=lambda record: record["id"])[:SHOWN_EACH]
    assert [one["context"] for one in sample.records] == [clipped(record["context"], 1200, 300) for record in smallest]


def test_pairs_of_duplicates_stand_beside_what_was_kept():
    kinds = np.array([NEW, NEAR, NEW, EXACT, *[NEAR] * 20], dtype=np.uint8)
    of = np.array([0, 0, 2, 2, *[2] * 20])
    sample = ReportSample()
    sample.compare(Duplicates(kinds, of))
    for row in range(len(kinds)):
        sample.see(row, make_record(f"题{row}", ["一"], "答"))
    assert len(sample.pairs["near"]) == PAIRS_EACH
    assert [(kept["context"], dropped["context"]) for kept, dropped in sample.pairs["exact"]] == [("题2", "题3")]
    assert all(kept["context"] in ("题0", "题2") for kept, _ in sample.pairs["near"])


def test_examples_are_drawn_evenly_and_kept_in_full():
    counts, halves = Counts(), [Counts(), Counts()]
    for row in range(1, 200):
        example = trace_example(RawTrace("题\n目", thought="想" * 5000, answer="答", source=f"a#{row}"), "note")
        counts.drop("few_steps", f"a#{row}", example)
        halves[row % 2].drop("few_steps", f"a#{row}", example)
    halves[0].merge(halves[1])
    assert halves[0].samples("few_steps") == counts.samples("few_steps")
    drawn = [int(one["source"][2:]) for one in counts.samples("few_steps")]
    assert len(drawn) == SAMPLES_EACH and max(drawn) > 60  # not the first ones
    one = counts.samples("few_steps")[0]
    assert one["context"] == "题\n目" and "[… 3,300 characters …]" in one["chain"] and len(one["chain"]) < 1800
    assert on_one_line(one)["context"] == "题 目" and len(on_one_line(one)["chain"]) < 200
    assert Counts.from_dict(json.loads(json.dumps(counts.to_dict()))) == counts


@pytest.mark.parametrize(
    ("text", "html", "verdict"),
    [
        ("没有等式 <b>", "没有等式 &lt;b&gt;", ""),
        ("得到3+4=7个", '得到<mark class="right">3+4=7</mark>个', "right"),
        ("3+4=8,2×5=10", '<mark class="wrong">3+4=8</mark>,<mark class="right">2×5=10</mark>', "wrong"),
    ],
)
def test_equations_of_a_step_are_marked(text, html, verdict):
    assert marked_step(text) == {"html": html, "verdict": verdict}


def test_what_differs_in_a_pair_is_marked():
    assert marked_pair("有3个<i>", "有5个<i>") == ("有<ins>3</ins>个&lt;i&gt;", "有<ins>5</ins>个&lt;i&gt;")
    left, right = marked_pair("a b", "a b c")
    assert left == "a b" and right == "a b<ins> c</ins>"


def notes(**domains):
    stats = RecordStats()
    for domain, (chains, without) in domains.items():
        for number in range(chains + without):
            steps = ["一", "二"] if number < chains else []
            stats.add(make_record(f"题{number}", steps, "答", domain=domain), "train")
    return stats.summary(["train"])["modes"], list(mode_notes(stats.summary(["train"])["modes"]))


def test_a_mixture_that_hurts_is_said():
    assert notes(math=(30, 0))[1] == notes(math=(0, 30))[1] == []
    modes, said = notes(math=(90, 10))
    assert modes == {
        "with_chain": 90,
        "without_chain": 10,
        "domains": {"math": {"with_chain": 90, "without_chain": 10}},
    }
    assert len(said) == 1 and "10 of 100 records (10.0%) have no chain" in said[0]
    assert "--add_thinking_switch" in said[0] and "--thinking true false" in said[0]
    _, said = notes(math=(40, 60))
    assert "Most records have no chain (60%)" in said[1]
    _, said = notes(math=(90, 0), general=(0, 25), legal=(0, 5))
    assert said[1].startswith("No record of general has a chain") and len(said) == 2
