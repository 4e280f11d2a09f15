"""What `prepare` says about tags it does not know, and that the option it names reads them."""

from importlib import import_module

import pytest
from trace_files import write_jsonl

from hf_reason.data import DataError, prepare
from hf_reason.data.prepare.counts import Counts
from hf_reason.data.prepare.report import unknown_tag_notes
from hf_reason.data.prepare.report_page import report_html
from hf_reason.data.read.other_tags import TagTranslator, unknown_tag

THOUGHTS = [
    "先看题目里的已知数。\n再把两个数相加。",
    "先找出两个数。\n然后列出加法算式。",
    "两个数都已知。\n要求的是它们的和。",
]


def rows(opening: str, closing: str, count: int) -> list[dict[str, str]]:
    return [
        {
            "question": f"第{i}组有{i}个苹果和{i * i}个梨，一共有多少个水果？",
            "answer": f"{opening}\n{THOUGHTS[i % 3]}\n{i}+{i * i}={i + i * i}\n{closing}\n\n一共有{i + i * i}个水果。",
        }
        for i in range(3, 3 + count)
    ]


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    # import_module, because the name `hf_reason.data.prepare` is that of the function
    monkeypatch.setattr(import_module("hf_reason.data.prepare.report_plot"), "draw_report", lambda report: b"png")


@pytest.mark.parametrize(
    ("opening", "closing", "name", "given"),
    [("<plan>", "</plan>", "plan", "plan"), ("[深思]", "[/深思]", "[深思],[/深思]", "'[深思],[/深思]'")],
)
def test_an_unknown_tag_is_named_with_the_option_that_reads_it(tmp_path, opening, closing, name, given):
    known = rows("<think>", "</think>", 4)
    unknown = rows(opening, closing, 12)[4:]
    source = write_jsonl(tmp_path / "t.jsonl", known + unknown)
    report = prepare(source, tmp_path / "one", progress=False)
    assert report["counts"]["filters"]["empty_thought"] == 8
    assert report["unknown_tags"] == {name: 8}
    (note,) = [warning for warning in report["warnings"] if "--thought_tags" in warning]
    assert note.startswith(f"8 traces carry {opening}…{closing} before the answer") and f"_tags {given} (" in note
    assert "8 traces carry" in report_html(report, b"")
    report = prepare(source, tmp_path / "two", thought_tags=[name], progress=False)
    assert report["counts"]["filters"]["empty_thought"] == 0 == len(report["unknown_tags"])
    assert report["settings"]["thought_tags"] == [name]


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        *(
            ("<|plan_begin|>", "<|plan_end|>"),
            ("[深思开始]", "[深思结束]"),
            ("【開始深思】", "【結束深思】"),
            ("{plan_start}", "{plan_end}"),
        ),
        *(("<Start Plan>", "<End Plan>"), ("<|OPEN_PLAN|>", "<|CLOSE_PLAN|>")),
    ],
)
def test_pairs_that_say_where_they_start_and_end(opening, closing):
    name = f"{opening},{closing}"
    assert unknown_tag(f"{opening}先想一想。{closing}答案是7。") == name
    assert TagTranslator([name])(f"{opening}先想一想。{closing}答案是7。") == "<think>先想一想。</think>答案是7。"
    assert unknown_tag(f"{opening}先想一想。") is None


def test_nothing_left_because_of_a_tag_says_so(tmp_path):
    source = write_jsonl(tmp_path / "t.jsonl", rows("<plan>", "</plan>", 5))
    with pytest.raises(DataError, match="5 traces carry <plan>…</plan>.*--thought_tags plan"):
        prepare(source, tmp_path / "out", progress=False)


def test_markup_and_single_rows_among_many_are_not_named(tmp_path):
    source = write_jsonl(tmp_path / "t.jsonl", rows("<think>", "</think>", 4) + rows("<div>", "</div>", 5)[4:])
    assert prepare(source, tmp_path / "out", progress=False)["unknown_tags"] == {}
    assert unknown_tag_notes({"unknown_tags": {"x": 1}, "counts": {"in": 1000}}) == []
    assert unknown_tag_notes({"unknown_tags": {"x": 1}, "counts": {"in": 5}})[0].startswith("1 trace carries <x>…</x>")


def test_counts_of_tags_survive_a_checkpoint():
    counts = Counts()
    counts.unknown_tags["x"] += 2
    counts.merge(Counts.from_dict(counts.to_dict()))
    assert counts.unknown_tags == {"x": 4}


def test_a_bad_name_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(DataError, match="thought_tags: '<x>'"):
        prepare("nowhere.jsonl", tmp_path / "out", thought_tags=["<x>"])


def test_cut_and_looping_answers_are_dropped_by_reason(tmp_path):
    good = rows("<think>", "</think>", 6)
    cut, loop, flagged = (dict(row) for row in good[3:])
    cut["answer"] += "\n代码如下：\n```python\nprint("
    loop["answer"] += "\n一共有很多个水果。" * 300
    flagged["finish_reason"] = "length"
    source = write_jsonl(tmp_path / "t.jsonl", [*good[:3], cut, loop, flagged])
    filters = prepare(source, tmp_path / "out", progress=False)["counts"]["filters"]
    assert {name: count for name, count in filters.items() if count} == {"truncated": 2, "repetition": 1}
