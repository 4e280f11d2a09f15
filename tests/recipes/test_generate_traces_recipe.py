"""`generate-traces` as a user runs it: against a server and with a local model, killed, resumed and trained on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import tiny
from trace_server import BREAK, FakeTeacher

from hf_reason.cli.main import main
from hf_reason.teachers import client


@pytest.fixture
def place(tmp_path, records, monkeypatch):
    """A folder with raw problems, and a teacher's server."""
    monkeypatch.setattr(client, "_BACKOFF", 0.001)
    monkeypatch.chdir(tmp_path)
    rows = [{"question": record["context"], "answer": record["answer"]} for record in records[:8]]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, rows[0]]), encoding="utf-8")
    server = FakeTeacher(records)
    yield tmp_path, server
    server.close()


def _arguments(server, *more):
    return ["generate-traces", "--dataset_name", "mine.jsonl", "--teacher_model_name_or_path", server.url, *more]


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _assert_whole(folder, problems, samples):
    rows = _lines(folder / "samples.jsonl")[1:]
    names = [(row["id"], row["sample"]) for row in rows]
    assert len(names) == len(set(names)) == problems * samples


def test_a_server_a_report_and_nothing_private(place, capsys, monkeypatch):
    folder, server = place
    monkeypatch.setenv("HF_REASON_TEACHER_API_KEY", "s3cret")
    server.failures = [(429, {}, {"Retry-After": "0"}), BREAK, (200, b"{"), (500, {})]
    options = ["--output_dir", "out", "--num_samples", "6", "--pairs", "2", "--price_per_million_tokens", "1", "2"]
    assert main(_arguments(server, *options)) == 0
    out, err = capsys.readouterr()
    for text in ("8 problems, ", "48 samples of big-teacher", "never closed", "Pass rate", "; cost ", " pairs."):
        assert text in out
    assert "1 problems stand there more than once" in err and "cost" in err
    _assert_whole(folder / "out", 8, 6)
    everything = "".join(path.read_text(encoding="utf-8") for path in (folder / "out").glob("*.json*"))
    assert set(server.keys) == {"Bearer s3cret"}
    for private in ("s3cret", "127.0.0.1", "/models/", str(folder)):
        assert private not in everything
    traces = _lines(folder / "out" / "traces.jsonl")
    assert traces and all(row["pass_rate"] > 0 and row["source"].startswith("mine.jsonl#") for row in traces)
    assert len(_lines(folder / "out" / "pairs.jsonl")) > 0
    assert main(_arguments(server, *options, "--temperature", "0.9")) == 2
    assert "temperature: 0.6 -> 0.9" in capsys.readouterr().err
    asked = len(server.requests)
    assert main(_arguments(server, *options[:4], "--keep", "shortest_correct")) == 0 and len(server.requests) == asked
    assert not (folder / "out" / "pairs.jsonl").exists()
    rows = _lines(folder / "out" / "traces.jsonl")
    assert len({row["context"] for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logprobs"], "logprobs needs a local teacher.*cache-teacher"),
        (["--batch_size", "4"], "batch_size would have no effect: a server is the teacher"),
        (["--price_per_million_tokens", "1"], "two prices"),
        (["--max_records", "0"], "max_records must be at least 1"),
        (["--extra_body", "[1]"], "extra_body"),
        (["--output_dir", "mine.jsonl"], "output_dir mine.jsonl is a file"),
        (["--dataset_name", ".", "--output_dir", "here"], "output_dir here is inside the data folder"),
        (["--dataset_name", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--teacher_model_name_or_path", "nowhere/at/all"], "nowhere/at/all"),
        (
            ["--teacher_model_name_or_path", "me/x", "--retries", "1"],
            "retries would have no effect: the teacher is no",
        ),
        (["--teacher_model_name_or_path", "http://127.0.0.1:9/v1", "--retries", "0"], "Is the server up"),
    ],
)
def test_refusals(place, capsys, arguments, message):
    folder, server = place
    assert main(_arguments(server, "--output_dir", "out", *arguments)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and re.search(message, error), error


def test_problems_without_answers(place, capsys):
    folder, server = place
    questions = [row["question"] for row in _lines(folder / "mine.jsonl")[:3]]
    (folder / "questions.jsonl").write_text("\n".join(json.dumps({"question": text}) for text in questions))
    (folder / "questions.txt").write_text("\n".join(questions))
    for name in ("questions.jsonl", "questions.txt"):
        options = ["--dataset_name", name, "--output_dir", f"out-{name}", "--num_samples", "2"]
        assert main(_arguments(server, *options)) == 2
        assert "none of the 3 problems has an answer" in capsys.readouterr().err
        assert main(_arguments(server, *options, "--keep", "all")) == 0
        out, err = capsys.readouterr()
        assert "3 of 3 problems have no answer" in err and "undecidable" in out
        assert all(row["pass_rate"] is None for row in _lines(folder / f"out-{name}" / "traces.jsonl"))


def test_a_local_teacher_and_its_cache(place, capsys, tiny_model, tokenizer):
    from hf_reason.teachers import TopKCache
    from hf_reason.text import encode

    folder, _ = place
    tiny.save_model(folder / "model", tiny_model, tokenizer)
    options = ["--teacher_model_name_or_path", "model", "--max_completion_length", "80", "--max_records", "3"]
    options += ["--output_dir", "out", "--keep", "all", "--verify_steps", "none", "--use_cpu", "--num_samples", "8"]
    command = ["generate-traces", "--dataset_name", "mine.jsonl", *options, "--temperature", "1.5", "--logprobs"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "samples of model" in out
    _assert_whole(folder / "out", 3, 8)
    traces = _lines(folder / "out" / "traces.jsonl")
    if traces:  # what random weights write may have no steps
        cache = TopKCache(folder / "out" / "teacher")
        example = encode(traces[0], tokenizer)
        assert cache.find(traces[0]["id"], example["input_ids"], example["labels"]) >= 0


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_and_doubles_nothing(place):
    folder, server = place
    command = [
        sys.executable,
        "-m",
        "hf_reason.cli",
        *_arguments(server, "--output_dir", "out", "--num_samples", "10"),
    ]
    killed, server.delay = 0, 0.1  # slow enough that the third run is not the last
    for wait in (0.0, 0.12, 0.2):
        process = subprocess.Popen(command, env={**os.environ, "HF_REASON_LAUNCHER": "none"}, cwd=folder)
        begun, deadline = len(server.requests), time.monotonic() + 60
        while len(server.requests) < begun + 9 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 3
    there = len(_lines(folder / "out" / "samples.jsonl")) - 1
    assert 0 < there < 80 and not (folder / "out" / "traces.jsonl").exists()
    server.requests.clear()
    server.delay = 0.0
    assert subprocess.run(command, cwd=folder).returncode == 0
    assert len(server.requests) == 80 - there, "what is there is not asked for again"
    _assert_whole(folder / "out", 8, 10)
    undisturbed = [word if word != "out" else "other" for word in command]
    assert subprocess.run(undisturbed, cwd=folder).returncode == 0
    for name in ("traces.jsonl", "predictions.jsonl", "traces.json"):
        assert (folder / "out" / name).read_text() == (folder / "other" / name).read_text()


@pytest.mark.slow
def test_a_served_teacher_needs_no_torch(place):
    _, server = place
    code = "import sys; from hf_reason.cli.main import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    done = tiny.run_python("-c", code, *_arguments(server, "--output_dir", "out"))
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_ctrl_c_says_how_it_continues(place):
    folder, server = place
    command = [
        sys.executable,
        "-m",
        "hf_reason.cli",
        *_arguments(server, "--output_dir", "out", "--num_samples", "50"),
    ]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    server.delay = 0.5
    while len(server.requests) < 10:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "the same command asks for the samples that are missing" in said


@pytest.mark.slow
def test_traces_are_trained_on_by_difficulty_and_pairs_by_trl(place, tiny_model, tokenizer, capsys):
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    folder, server = place
    assert main(_arguments(server, "--output_dir", "out", "--num_samples", "6", "--pairs", "2")) == 0
    assert main(["prepare", "--dataset_name", "out", "--output_dir", "data", "--duplicate_threshold", "1"]) == 0
    tiny.save_model(folder / "model", tiny_model, tokenizer)
    command = [
        "sft",
        "--model_name_or_path",
        "model",
        "--dataset_name",
        "data",
        "--output_dir",
        "sft",
        "--max_steps",
        "2",
    ]
    command += ["--curriculum", "pass_rate", "--difficulty_from", "out", "--use_cpu", "true", "--bf16", "false"]
    assert main([*command, "--max_test_records", "0", "--eval_strategy", "no"]) == 0
    pairs = load_dataset("json", data_files=str(folder / "out" / "pairs.jsonl"), split="train")
    options = {"use_cpu": True, "bf16": False, "max_steps": 1, "report_to": "none", "per_device_train_batch_size": 2}
    trainer = DPOTrainer(
        str(folder / "model"),
        args=DPOConfig(str(folder / "dpo"), **options),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    trainer.train()
    assert trainer.state.global_step == 1
