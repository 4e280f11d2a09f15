"""Broken records in every layout and format: no traceback, none lost without being counted, nothing else touched."""

import copy
import csv
import io
import json

import pytest
from broken import EXAMPLES, anything, campaign, is_of_the_user, listing, sizes, texts
from hypothesis import strategies as st

from hf_reason.cli.main import main
from hf_reason.data import DataError, prepare
from hf_reason.data.read.layouts import ADAPTERS
from hf_reason.data.read.sources import read_traces, trace_to_record

ROWS = 10  # of a file
THOUGHT = "首先，原有3个。\n\n然后，3+4=7。\n\n所以是7个。"
MESSAGE = f"<think>\n{THOUGHT}\n</think>\n\n7个"
DIALOGUE = [{"role": "user", "content": "3+4等于几？"}, {"role": "assistant", "content": MESSAGE}]


def _value(column, adapter):
    if column in ("conversations", "messages"):
        return DIALOGUE
    if column in adapter.lists:
        return [MESSAGE] if column == "generations" else ["原有3个", "3+4=7", "所以是7个"]
    if any(word in column for word in ("reason", "think", "thought", "cot", "trajectory", "solution", "equation")):
        return THOUGHT
    if any(word in column for word in ("answer", "response", "content", "output", "completion", "attempt", "text")):
        return MESSAGE if column != "answer" else "7个"
    return "小明有3个苹果，又买4个，一共几个？"


def rows_of(adapter):
    """A good row of a layout, and the columns that may be there as well."""
    row = {want.split("|")[0]: _value(want.split("|")[0], adapter) for want in adapter.wants}
    return {**row, "domain": "math", "id": "a-1"}


GOOD = [rows_of(adapter) for adapter in ADAPTERS.values()]
EXTRA = [
    "history",
    "system",
    "images",
    "image",
    "options",
    "choices",
    "finish_reason",
    "答案",
    "思考",
    "messages",
    "tools",
]


@st.composite
def broken_rows(draw):
    """A row of some layout with one to four things wrong."""
    row = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        way, name = draw(st.integers(0, 6)), draw(st.sampled_from(sorted(row))) if row else ""
        if way == 0 and row:
            del row[name]
        elif way == 1 and row:
            row[draw(texts)] = row.pop(name)
        elif way == 2:
            row[draw(st.sampled_from(EXTRA))] = draw(anything)
        elif way == 3 and isinstance(row.get(name), list) and row[name]:
            place = draw(st.integers(0, len(row[name]) - 1))
            inner = row[name][place]
            if isinstance(inner, dict) and inner and draw(st.booleans()):
                row[name][place] = {**inner, draw(st.sampled_from(sorted(inner))): draw(anything)}
            else:
                row[name][place] = draw(anything)
        elif way == 4 and isinstance(row.get(name), str):
            place = draw(st.integers(0, len(row[name])))
            row[name] = row[name][:place] + draw(texts) + row[name][place:]
        elif row:
            row[name] = draw(anything)
    return row


@st.composite
def broken_lines(draw):
    """A line of a JSONL file: a broken row, or one that is no JSON."""
    row = draw(broken_rows())
    line = json.dumps(row, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    way = draw(st.integers(0, 9))
    if way == 0:
        return line[: draw(st.integers(0, len(line)))].replace(b"\n", b" ")
    if way == 1:
        place = draw(st.integers(0, len(line) - 1))
        return (line[:place] + draw(st.binary(min_size=1, max_size=4)) + line[place:]).replace(b"\n", b" ")
    if way == 2:
        return json.dumps(draw(anything)).encode("utf-8", "surrogatepass")
    return line


def _check(path, count, tmp_path, history="drop"):
    """Each of `count` numbered rows is a trace or is reported; or the file as a whole is refused."""
    told = []
    try:
        found = list(read_traces(path, history=history, skip_broken=True, on_broken=told.append))
    except DataError as error:
        assert path.name in str(error), error
        return
    seen = {int(trace.source.rpartition("#")[2]) for trace in found} | {row.number for row in told}
    if history != "split":  # a dialogue without a thought is no trace then
        assert set(count) <= seen, f"lost: {sorted(set(count) - seen)}"
    for trace in found:
        try:
            record = trace_to_record(trace)
        except DataError:
            continue
        json.dumps(record, ensure_ascii=False)


@sizes(12, EXAMPLES // ROWS)
def test_lines(tmp_path, examples):
    """10,000 of them: HF_REASON_FUZZ."""

    def check(example):
        lines, history, ending = example
        path = tmp_path / f"x{ending}"
        path.write_bytes(b"\n".join(lines) + b"\n")
        filled = [number for number, line in enumerate(lines, 1) if line.strip()]
        _check(path, filled, tmp_path, history)

    lines = st.lists(broken_lines(), min_size=ROWS, max_size=ROWS)
    campaign(
        examples,
        st.tuples(lines, st.sampled_from(["drop", "keep", "split"]), st.sampled_from([".jsonl", ".ndjson"])),
        check,
    )


@sizes(6, EXAMPLES // ROWS // 4)
def test_arrays_and_tables(tmp_path, examples):
    """The same rows as one JSON array, as CSV, and as Parquet where Arrow takes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def check(rows):
        rows = json.loads(json.dumps(rows).encode("utf-8", "replace"))
        path = tmp_path / "x.json"
        path.write_text(json.dumps(rows, ensure_ascii=True))
        _check(path, range(1, len(rows) + 1), tmp_path)
        path, text = tmp_path / "x.csv", io.StringIO()
        columns = list(dict.fromkeys(str(name) for row in rows for name in row))
        writer = csv.writer(text)
        writer.writerow(columns)
        for row in rows:
            values = [row.get(name) for name in columns]
            writer.writerow([value if isinstance(value, str) else json.dumps(value) for value in values])
        path.write_bytes(text.getvalue().encode("utf-8", "replace"))
        try:
            _check(path, [], tmp_path)
        except csv.Error as error:  # never: the reader says which line
            raise AssertionError(error) from error
        try:
            table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
            pq.write_table(table, tmp_path / "x.parquet")
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            return
        _check(tmp_path / "x.parquet", range(1, len(rows) + 1), tmp_path)

    campaign(examples, st.lists(broken_rows(), min_size=ROWS, max_size=ROWS), check)


@sizes(2, max(EXAMPLES // 400, 1))
def test_prepare_counts_them_all_and_touches_its_folder_only(tmp_path, examples, capsys, monkeypatch):
    """The whole command: what goes in is what comes out and what the report counts."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def check(lines):
        path, out = here / "x.jsonl", here / "out"
        path.write_bytes(b"\n".join(lines) + b"\n")
        before = listing(tmp_path)
        code = main([
            "prepare", "--dataset_name", str(path), "--output_dir", str(out), "--skip_broken", "--overwrite",
            "--min_steps", "0", "--test_size", "0.1",
        ])  # fmt: skip
        assert code in (0, 2)
        assert listing(tmp_path, without=out) == {
            name: digest for name, digest in before.items() if not (tmp_path / name).is_relative_to(out)
        }
        if code == 0:
            counts = json.loads((out / "report.json").read_text())["counts"]
            filled = sum(bool(line.strip()) for line in lines)
            assert counts["in"] == counts["out"] + sum(counts["filters"].values()) >= filled
        else:
            assert "Traceback" not in capsys.readouterr().err

    campaign(examples, st.lists(broken_lines(), min_size=40, max_size=40), check)


def test_the_python_function_refuses_too(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xff\xfe{")
    try:
        prepare(path, tmp_path / "out", progress=False)
    except Exception as error:
        assert is_of_the_user(error)


@pytest.mark.parametrize("history", ["drop", "keep", "split"])
@pytest.mark.parametrize("column", ["history", "system", "tools", "input", "answer", "domain", "finish_reason"])
def test_half_a_surrogate_pair_in_any_column_is_read(tmp_path, column, history):
    """JSON can escape it, UTF-8 cannot store it: the first campaign found it in a dialogue's history."""
    dialogue = [{"role": "user", "content": "3+4\ud800"}, {"role": "assistant", "content": MESSAGE + "\udfff"}]
    value = {"history": [["一\ud800", "二\udc00"]], "tools": [{"name": "\ud800"}]}.get(column, "x\ud800")
    for number, row in enumerate([*GOOD, {"messages": dialogue}]):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps([{**row, column: value}]))
        _check(path, [1], tmp_path, history)
