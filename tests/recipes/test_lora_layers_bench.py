"""`recipes/bench/lora_layers.py` from a prepared folder to its table; what is finished is not repeated."""

import json

import pytest
import tiny


def _rows(done):
    return [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]


@pytest.mark.slow
def test_ways_are_compared_on_held_out_records(tmp_path, dataset, _session_tokenizer, run_here):
    model = tiny.tiny_qwen2(_session_tokenizer, num_hidden_layers=3)
    base = tiny.save_model(tmp_path / "base", model, _session_tokenizer)
    out = tmp_path / "out"
    words = ["--model_name_or_path", base, "--dataset_name", dataset, "--output_dir", out, "--seeds", 0]
    words += ["--max_steps", 2, "--batch_size", 2, "--ranking_records", 2, "--held_out", 4, "--dtype", "float32"]
    done = run_here("bench/lora_layers.py", *map(str, words))
    assert done.returncode == 0, done.stderr
    rows = _rows(done)
    assert [row[0] for row in rows[1:]] == [
        "| before",
        "| all",
        "| ranked",
        "| skipped",
        "| upper",
        "| lower",
        "| random",
    ]
    found = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert found["all-0"]["layers"] == [0, 1, 2] and found["upper-0"]["layers"] == [2]
    assert found["all-0"]["parameters"] == 3 * found["lower-0"]["parameters"]
    assert len(found["rises"]) == 3 and found["skipped-0"]["layers"] == [found["rises"].index(max(found["rises"]))]
    assert all(found[f"{way}-0"]["loss"] != found["before"] for way in ("all", "ranked", "lower"))
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
    assert _rows(run_here("bench/lora_layers.py", *map(str, words))) == rows
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("*.json")}
