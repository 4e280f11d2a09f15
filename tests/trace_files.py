"""Small trace files for the tests of the readers and adapters."""

import json
from pathlib import Path

from hf_reason.data.read.sources import read_traces
from hf_reason.data.record import RawTrace


def write_jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def one(tmp_path: Path, row: dict, **options) -> RawTrace:
    (trace,) = read_traces(write_jsonl(tmp_path / "one.jsonl", [row]), **options)
    return trace
