"""Damaged and strange files: one clear error that names the file; cells that only stand for a missing value."""

import bz2
import csv
import gzip
import json
import lzma

import pytest

from hf_reason.data.read.sources import SourceError, read_traces

ROWS = [{"question": f"{i}加{i * 7919 % 9973}？", "reasoning": f"{i * 104729}", "answer": str(i)} for i in range(500)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(content, codec="zstd", asbytes=True)


PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd}


def message(path) -> str:
    with pytest.raises(SourceError) as error:
        list(read_traces(path))
    return str(error.value)


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_compressed_files_whole_and_cut(tmp_path, ending, kind):
    path = tmp_path / f"data.{kind}.{ending}"
    content = TEXT if kind == "jsonl" else json.dumps(ROWS).encode()
    if kind == "csv":
        content = ("question,reasoning,answer\n" + "".join(",".join(row.values()) + "\n" for row in ROWS)).encode()
    packed = PACK[ending](content)
    path.write_bytes(packed)
    assert len(list(read_traces(path))) == len(ROWS)
    for part in (packed[: len(packed) // 2], b"no such format"):
        path.write_bytes(part)
        assert f"{path.name}: the file is damaged or incomplete" in message(path)
        assert "Copy or download it again" in message(path)
        broken: list = []
        rest = list(read_traces(path, skip_broken=True, on_broken=broken.append))
        assert len(rest) < len(ROWS) and len(broken) == 1 and broken[0].number == len(rest) + 1


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream.arrow"])
def test_tables_whole_and_cut(tmp_path, kind):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, table = tmp_path / f"x.{kind}", pa.Table.from_pylist(ROWS)
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_stream if kind == "stream.arrow" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=125)
    assert [trace.answer for trace in read_traces(path)] == [row["answer"] for row in ROWS]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert f"x.{kind}: " in message(path) and "opy or download it again" in message(path)
    broken: list = []
    list(read_traces(path, skip_broken=True, on_broken=broken.append))
    assert len(broken) == 1


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.jsonl", b"version https://git-lfs.example/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("x.parquet", b"<!DOCTYPE html><html></html>", "a web page"),
        ("x.zip", b"PK\3\4", "Unpack it: unzip "),
        ("x.tar.gz", b"", "Unpack it: tar -xf "),
        ("x.csv", "question,answer\n问,答\n".encode("utf-16"), "It is UTF-16: iconv -f UTF-16 -t UTF-8 "),
        ("x.jsonl", '{"question": "问"}\n'.encode("utf-16"), "It is UTF-16: iconv -f UTF-16 -t UTF-8 "),
        ("x.csv", b"question,answer,answer\nq,a,b\n", "its header has 'answer' more than once"),
    ],
)
def test_what_is_no_data(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    assert told in message(tmp_path / name) and name in message(tmp_path / name)


def test_a_file_of_a_folder_that_is_no_data(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(TEXT[:200].rpartition(b"\n")[0])
    (tmp_path / "b.jsonl").write_bytes(b"version https://git-lfs.example/spec/v1\n")
    with pytest.raises(SourceError, match="b.jsonl: it is a pointer of Git LFS"):
        list(read_traces(tmp_path, skip_broken=True, on_broken=lambda row: None))


def test_nuls_at_the_end_and_in_texts(tmp_path):
    path = tmp_path / "x.jsonl"
    row = {"question": "q\0", "reasoning": "r\0r", "answer": "a"}
    path.write_bytes(json.dumps(row).encode() + b"\n" + b"\0" * 4096)
    (trace,) = read_traces(path)
    assert (trace.context, trace.thought) == ("q", "rr")


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("sep=;\r\nquestion;reasoning;answer\r\nq,1;r;a\r\n;;\r\n", ["a"]),  # Excel
        (",question,reasoning,answer,\n0,q,r,a,\n", ["a"]),  # pandas' index; a column without a name
        (" question , reasoning, answer\nq,r,a\n", ["a"]),
        ("question,reasoning,answer\rq,r,a\rq,r,b\r", ["a", "b"]),
        ('question,reasoning,answer\nq,r,"[""2"", ""3""]"\nq,r,"{""a"": 3}"\n', ['["2", "3"]', '{"a": 3}']),
        ("question,reasoning,answer\nq,r,nan\nq,r,None\nq,r,NULL\nq,r,\n", ["", "None", "", ""]),
    ],
)
def test_csv_of_other_programs(tmp_path, text, answers):
    (tmp_path / "x.csv").write_text(text, newline="")
    assert [trace.answer for trace in read_traces(tmp_path / "x.csv")] == answers


def test_texts_that_look_like_lists_stay(tmp_path):
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["question", "reasoning", "answer"], ['{"a": 1} 是什么', '["想"]', "[1, 2]"]])
    (trace,) = read_traces(path)
    assert (trace.context, trace.thought, trace.answer) == ('{"a": 1} 是什么', '["想"]', "[1, 2]")


@pytest.mark.parametrize("missing", ["NaN", '"nan"', '"<NA>"', "null", '""', '"None"'])
def test_missing_values_are_no_text(tmp_path, missing):
    path = tmp_path / "x.jsonl"
    path.write_text(
        f'{{"instruction": "q", "input": {missing}, "output": "<think>r</think>a", "system": {missing}}}\n'
    )
    (trace,) = read_traces(path)
    assert (trace.context, trace.thought, trace.answer) == ("q", "r", "a")
    path.write_text(f'{{"question": "q", "reasoning": {missing}, "answer": "a"}}\n')
    assert next(read_traces(path)).thought == ""


def test_nan_is_no_answer(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": NaN}]}\n'
        '{"question": "q", "reasoning": "r", "answer": NaN}\n'
    )
    assert [trace.answer for trace in read_traces(path)] == ["", ""]
