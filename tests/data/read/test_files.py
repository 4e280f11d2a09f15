"""Readers: every format gives the same rows, in little memory, and what cannot be read is named."""

import csv
import gzip
import json
import shlex
import tracemalloc
from pathlib import Path

import pytest

from hf_reason.data import read_evaluation_records
from hf_reason.data.read.files import open_source
from hf_reason.data.read.sources import SourceError, read_traces


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


ROWS = [{"question": f"{i}加1等于几？", "reasoning": f"{i}+1={i + 1}", "answer": str(i + 1)} for i in range(700)]


def write_as(kind: str, folder: Path) -> Path:
    path = folder / f"data.{kind}"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    if kind == "jsonl":
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode())
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif kind == "json":
        path.write_text("\ufeff" + json.dumps(ROWS, indent=1, ensure_ascii=False), encoding="utf-8")
    elif kind == "lines.json":
        path.write_text(text, encoding="utf-8")
    elif kind == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "lines.json", "csv", "parquet"])
def test_every_format_gives_the_same_traces(tmp_path, kind):
    traces = list(read_traces(write_as(kind, tmp_path)))
    assert [(t.context, t.thought, t.answer) for t in traces] == [tuple(row.values()) for row in ROWS]
    step = 2 if kind == "jsonl" else 1  # every second line is blank there, and rows are lines
    assert [t.source for t in traces[:3]] == [f"data.{kind}#{1 + step * i}" for i in range(3)]


def test_one_object_and_an_empty_array(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(ROWS[0], indent=2))
    assert len(list(read_traces(path))) == 1
    path.write_text(" [ ] \n")
    assert list(read_traces(path)) == []


@pytest.mark.parametrize(
    "document",
    [
        {"data": ROWS[:3]},
        {"version": 1, "rows": ROWS[:3], "columns": [{"name": "question"}]},
        {f"id-{number}": row for number, row in enumerate(ROWS[:3])},
        {"data": {"rows": ROWS[:3]}},
    ],
)
def test_rows_inside_of_one_object(tmp_path, document):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(document))
    if isinstance(document.get("data"), dict):  # one level only
        with pytest.raises(SourceError, match=r"x.json#1: unknown layout. Its columns are data"):
            list(read_traces(path))
    else:
        assert [t.source for t in read_traces(path)] == ["x.json#1", "x.json#2", "x.json#3"]


def test_several_lists_of_rows_are_not_mixed(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"train": ROWS[:3], "test": ROWS[3:5]}))
    for skip_broken in (False, True):
        with pytest.raises(SourceError, match="x.json#1: it holds several lists of rows: train, test"):
            list(read_traces(path, skip_broken=skip_broken))


def test_a_large_array_is_streamed(tmp_path):
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(6000):
            file.write(("," if number else "") + json.dumps({"question": "q" * 3000, "reasoning": "r", "answer": "a"}))
        file.write("]")
    assert path.stat().st_size > 18_000_000
    tracemalloc.start()
    count = sum(1 for _ in read_traces(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6000 and peak < 9_000_000


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    write_jsonl(tmp_path / "b.jsonl", ROWS[:1])
    write_jsonl(tmp_path / "sub" / "a.jsonl", ROWS[1:3])
    write_jsonl(tmp_path / "a.jsonl", ROWS[3:4])
    write_jsonl(tmp_path / ".hidden" / "c.jsonl", ROWS[:1])
    (tmp_path / "README.md").write_text("no data")
    assert [t.source for t in read_traces(tmp_path)] == ["a.jsonl#1", "b.jsonl#1", "sub/a.jsonl#1", "sub/a.jsonl#2"]


def test_folders_that_save_to_disk_wrote(tmp_path):
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list(ROWS[:3])
    saved.save_to_disk(str(tmp_path / "raw" / "saved"))
    DatasetDict({"train": saved, "test": saved.select([0])}).save_to_disk(str(tmp_path / "splits"))
    assert [t.source for t in read_traces(tmp_path / "raw" / "saved")] == ["saved#1", "saved#2", "saved#3"]
    assert [t.source for t in read_traces(tmp_path / "raw")] == ["saved#1", "saved#2", "saved#3"]
    splits = [t.source for t in read_traces(tmp_path / "splits")]
    assert splits == ["splits/train#1", "splits/train#2", "splits/train#3", "splits/test#1"]


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("user/name", ("user/name", None, "train")),
        ("user/name:test", ("user/name", None, "test")),
        ("user/name:v1:test", ("user/name", "v1", "test")),
    ],
)
def test_hub_names(monkeypatch, source, asked):
    import datasets

    def load_dataset(name, config, *, split, streaming):
        assert (name, config, split) == asked and streaming
        return iter(ROWS[:2])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    label = "user/name:v1" if asked[1] else "user/name"
    assert [t.source for t in read_traces(source)] == [f"{label}#1", f"{label}#2"]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    import datasets

    def load_dataset(*args, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(SourceError, match="split 'train' of the Hub data set user/name: no route.*Check the name"):
        list(read_traces("user/name"))


@pytest.mark.parametrize("source", ["nothing.jsonl", "nothing", "./a/b", "a/b/c", "/no/such/folder", "folder/x.json"])
def test_a_path_that_does_not_exist_is_refused_at_once(source):
    with pytest.raises(SourceError, match="No such file or folder"):
        read_traces(source)


def test_other_files_and_empty_folders_are_refused(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(SourceError, match=r"x\.txt: not a format.*\.jsonl.*\.parquet"):
        read_traces(tmp_path / "x.txt")
    with pytest.raises(SourceError, match="No data in the folder"):
        list(read_traces(tmp_path))


@pytest.mark.parametrize("line", [b'{"question": "q", ', b"\xff\xfe{}", b"[" * 200_000])
def test_broken_json_lines(tmp_path, line, caplog):
    path = tmp_path / "d.jsonl"
    good = json.dumps(ROWS[0]).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good)
    with pytest.raises(SourceError, match="d.jsonl, line 2: not .*skip_broken=True"):
        list(read_traces(path))
    assert len(list(read_traces(path, skip_broken=True))) == 2
    assert "line 2" in caplog.text


@pytest.mark.parametrize(
    ("text", "line"),
    [('[\n{"a": 1},\n{"a": }]', 3), ('[{"a": 1}\n{"a": 2}]', 2), ('[{"a": 1},', 1), ('[{"a": "x', 1), ("[{}] x", 1)],
)
def test_broken_json_files(tmp_path, text, line):
    path = tmp_path / "d.json"
    path.write_text(
        text.replace('"a": 1', '"question": "q", "answer": "a"').replace("{}", '{"question":"q","answer":""}')
    )
    with pytest.raises(SourceError, match=f"d.json, line {line}: not valid JSON .*rest of the file"):
        list(read_traces(path))
    messages: list[str] = []
    list(read_traces(path, skip_broken=True, on_broken=messages.append))
    assert len(messages) == 1


def test_a_damaged_parquet_file_and_a_ragged_csv(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(SourceError, match="x.parquet: not a readable Parquet file"):
        list(read_traces(tmp_path / "x.parquet"))
    (tmp_path / "x.csv").write_text("question,answer\nq,a\nq\nq,a,b\nq,a\n")
    with pytest.raises(SourceError, match="x.csv, row 2: not as many cells"):
        list(read_traces(tmp_path / "x.csv"))
    assert [t.source for t in read_traces(tmp_path / "x.csv", skip_broken=True)] == ["x.csv#1", "x.csv#4"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_with_semicolons_or_tabs(tmp_path, mark):
    path = tmp_path / "x.csv"
    path.write_text(f"\ufeffquestion{mark}answer\n1,2{mark}3\n", encoding="utf-8")
    (trace,) = read_traces(path)
    assert (trace.context, trace.answer) == ("1,2", "3")
    path.write_text(f'question,"a{mark}b",answer\n1,2,3\n', encoding="utf-8")
    (trace,) = read_traces(path)
    assert (trace.context, trace.answer) == ("1", "3")


@pytest.mark.parametrize(("name", "texts"), [("x.tsv", False), ("x.xlsx", False), ("x.xlsx", True)])
def test_spreadsheets_are_to_be_exported(tmp_path, name, texts):
    (tmp_path / name).write_text("x")
    with pytest.raises(SourceError, match=f"{name}: .* cannot be read. Export it as CSV in UTF-8"):
        open_source(tmp_path / name, texts=texts)


@pytest.mark.parametrize("name", ["x y.csv", "x.json", "x.jsonl", "x.csv.gz"])
def test_a_file_in_gbk_is_told_how_to_convert_it(tmp_path, name):
    rows = json.dumps({"question": "题目", "answer": "答案"}, ensure_ascii=False)
    content = ("question,answer\n题目,答案\n" if ".csv" in name else rows).encode("gbk")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(SourceError) as error:
        list(read_traces(tmp_path / name))
    message = str(error.value)
    path = shlex.quote(str(tmp_path / name))
    wanted = f"gunzip -c {path} | iconv" if name.endswith(".gz") else f"iconv -f GB18030 -t UTF-8 {path} > "
    assert "not UTF-8" in message and wanted in message and "not valid JSON" not in message


_TABLE = [
    {"question": "一加一?", "reasoning": "1+1=2", "answer": "2"},
    {"question": "二加二?", "reasoning": "2+2=4", "answer": "4"},
]


@pytest.mark.parametrize(
    "table",
    [
        {name: [row[name] for row in _TABLE] for name in _TABLE[0]},
        {name: {str(at): row[name] for at, row in enumerate(_TABLE)} for name in _TABLE[0]},
        {"columns": list(_TABLE[0]), "index": [0, 1], "data": [list(row.values()) for row in _TABLE]},
    ],
    ids=["lists", "pandas", "split"],
)
def test_a_table_by_columns(tmp_path, table):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    assert [(t.context, t.thought, t.answer) for t in read_traces(path)] == [tuple(row.values()) for row in _TABLE]
    records = read_evaluation_records(path)
    assert [(record["context"], record["answer"]) for record in records] == [("一加一?", "2"), ("二加二?", "4")]


@pytest.mark.parametrize("row", [{"prompt": ["a", "b"], "completion": ["c"]}, {"x": [1, 2], "y": [3, 4]}])
def test_what_is_no_table_by_columns(tmp_path, row):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(SourceError, match="t.json#1"):
        list(read_traces(path))
