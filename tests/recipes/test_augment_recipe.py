"""`augment` as a user runs it: by rules, with a served and a local translator, killed and trained on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from datasets import load_from_disk
from trace_server import FakeTeacher

from hf_reason.cli.arguments import DataArguments
from hf_reason.cli.main import main
from hf_reason.data.record import RECORD_FIELDS, record_features
from hf_reason.teachers import client


class FakeTranslator(FakeTeacher):
    """Gives the text of the request again, with a word before it that the way back takes away."""

    def answer(self, request):
        text = request["messages"][-1]["content"].split("\n\n", 1)[1]
        out = f"Then: {text}" if not text.startswith("Then: ") else f"这样，{text.removeprefix('Then: ')}"
        if "送给别人" in text and out.startswith("这样"):
            out = out.replace("[1]", "")  # loses the figure
        choice = {"index": 0, "message": {"role": "assistant", "content": out}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 9}}


@pytest.fixture
def place(tmp_path, records, monkeypatch):
    """A folder with prepared data, whose steps have words."""
    from datasets import Dataset, DatasetDict

    monkeypatch.setattr(client, "_BACKOFF", 0.001)
    monkeypatch.chdir(tmp_path)
    # every step has words of its own, so that each is a text to translate
    rows = [
        {
            **record,
            "steps": [
                f"根据{chr(0x5F20 + 37 * row + number)}的题意计算得到{step}"
                for number, step in enumerate(record["steps"])
            ],
        }
        for row, record in enumerate(records[:20])
    ]
    parts = {"train": rows[:12], "test": rows[12:]}
    splits = {name: Dataset.from_list(part, features=record_features()) for name, part in parts.items()}
    DatasetDict(splits).save_to_disk(str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def server():
    server = FakeTranslator([])
    yield server
    server.close()


def _train(folder):
    return load_from_disk(str(folder))["train"].to_list()


def test_by_rules_and_a_second_time(place, capsys):
    command = ["augment", "--dataset_name", "data", "--output_dir", "out", "--distractors", "0.5", "--step_pairs", "1"]
    assert main(command) == 0
    out = capsys.readouterr().out
    for text in ("12 training records came in, 12", "6 records chosen,", "Splits: train 18, test 8"):
        assert text in out
    before = (place / "out" / "step_pairs.jsonl").stat().st_mtime_ns
    assert main(command) == 0 and (place / "out" / "step_pairs.jsonl").stat().st_mtime_ns == before
    assert main([*command, "--seed", "3"]) == 2
    assert "was made with other settings or records (seed)" in capsys.readouterr().err
    assert main([*command, "--seed", "3", "--overwrite"]) == 0 and len(_train(place / "out")) == 18


def test_a_served_translator(place, server, capsys, monkeypatch):
    monkeypatch.setenv("HF_REASON_TEACHER_API_KEY", "s3cret")
    command = ["augment", "--dataset_name", "data", "--output_dir", "out", "--back_translation", "1"]
    command += ["--translator_model_name_or_path", server.url]
    server.failures = [(429, {}, {"Retry-After": "0"}), (500, {})]
    assert main(command) == 0
    assert set(server.keys) == {"Bearer s3cret"}
    rows = _train(place / "out")
    made = [row for row in rows if row["provenance"]]
    originals = {row["id"]: row for row in rows if not row["provenance"]}
    assert made and "paraphrases" in capsys.readouterr().out
    for row in made:
        old = originals[row["provenance"][0]["of"]]
        assert all(row[name] == old[name] for name in RECORD_FIELDS if name not in ("id", "steps"))
        for before, after in zip(old["steps"], row["steps"], strict=True):
            assert re.findall(r"\d+", before) == re.findall(r"\d+", after)
    everything = "".join(path.read_text("utf-8") for path in (place / "out").rglob("*.json*"))
    assert not any(private in everything for private in ("s3cret", "127.0.0.1", "/models/", str(place)))
    lost = command[:4] + ["out3", *command[5:], "--retries", "0", "--parallel", "1"]
    server.failures = [(500, {})]
    assert main(lost) == 0 and "1 texts were not translated" in capsys.readouterr().err
    assert main(lost) == 0 and _train(place / "out3") == rows
    asked = len(server.requests)
    assert main([*command[:4], "out2", *command[5:], "--translation_cache", "out/.augment"]) == 0
    assert len(server.requests) == asked and _train(place / "out2") == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing is to be done.*distractors"),
        (["--distractors", "1.5"], "distractors is a fraction of the records.*got 1.5"),
        (["--distractors", "0.5", "--pairs_per_record", "3"], "pairs_per_record would have no effect"),
        (["--distractors", "0.5", "--translator_model_name_or_path", "x"], "would have no effect: back_translation"),
        (["--back_translation", "0.5"], "needs a translator"),
        (["--distractors", "0.5", "--distractor_kinds", "silly"], "silly is not in irrelevant, wrong"),
        (["--distractors", "0.5", "--output_dir", "data/x"], "is inside the data folder"),
        (["--distractors", "0.5", "--dataset_name", "nowhere"], "nowhere"),
        pytest.param(
            ["--back_translation", "1", "--translator_model_name_or_path", "nowhere/at/all"],
            "nowhere/at/all",
            marks=pytest.mark.slow,  # it imports torch
        ),
        (
            ["--back_translation", "1", "--translator_model_name_or_path", "http://127.0.0.1:9/v1", "--retries", "0"],
            "Is the server up",
        ),
    ],
)
def test_refusals_of_augment(place, capsys, arguments, message):
    assert main(["augment", "--dataset_name", "data", "--output_dir", "out", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("Error: ") and re.search(message, error), error
    assert not (place / "out" / "dataset_dict.json").exists()


def test_a_card_tells_of_the_preparation_and_of_what_was_made_of_it(place):
    from hf_reason.evaluation.model_card.sections import data_tables

    assert DataArguments(dataset_name=["data"]).report is None
    prepared = {"fingerprint": "f00d", "counts": {"in": 30, "out": 20, "filters": {"repetition": 10}}}
    prepared |= {"splits": {"train": 12, "test": 8}, "domains": {"math": {"all": 20, "train": 12, "test": 8}}}
    (place / "data" / "report.json").write_text(json.dumps(prepared))
    assert DataArguments(dataset_name=["data"]).report == Path("data/report.json")
    for source, out, train, made in (
        ("data", "out", 18, 6),
        ("out", "again", 21, 3),
    ):  # also of what is augmented already
        assert main(["augment", "--dataset_name", source, "--output_dir", out, "--distractors", "0.5"]) == 0
        report = DataArguments(dataset_name=[out]).report
        assert report == Path(out, "augment.json")
        tables = data_tables(json.loads(report.read_text()))
        assert "30 raw traces were read, 20 records were kept (preparation `f00d`)" in tables["text"]
        assert f"More training records were made of them: distractors ({made})" in tables["text"]
        assert f"| train | {train} |" in tables["splits"] and "| repetition | 10 |" in tables["filters"]
    (place / "out" / "augment.json").write_text("{")
    assert DataArguments(dataset_name=["out"]).report is None
    assert DataArguments(dataset_name=["data", "again"]).report is None


@pytest.mark.parametrize(("asked", "fraction"), [("0", None), ("0.5", "0.5"), (None, "0.25")])
def test_the_demo_trains_with_distractors_unless_it_is_asked_not_to(tmp_path, monkeypatch, asked, fraction):
    from hf_reason.cli import demo

    runs, trained = [], []
    monkeypatch.setattr(demo, "_run", lambda *words: runs.append(words) or 0)
    monkeypatch.setattr(demo, "train", lambda folder, data, models, extra: trained.append(data) or {})
    monkeypatch.setattr(demo, "_report", lambda *rest: None)
    command = ["demo", "--output_dir", str(tmp_path), "--num_problems", "9", "--question", "?"]
    assert main([*command, *(() if asked is None else ("--distractors", asked))]) == 0
    augmented = [words for words in runs if words[0] == "augment"]
    assert trained == [tmp_path / ("data" if fraction is None else "augmented")]
    assert [words[-2:] for words in augmented] == ([] if fraction is None else [("--distractors", fraction)])


@pytest.mark.slow
def test_a_killed_run_loses_and_doubles_nothing(place, server):
    command = [sys.executable, "-m", "hf_reason.cli", "augment", "--dataset_name", "data", "--output_dir", "out"]
    command += ["--back_translation", "1", "--distractors", "0.5", "--step_pairs", "1"]
    command += ["--translator_model_name_or_path", server.url, "--parallel", "2"]
    server.delay = 0.05
    for count in (9, 30, 60):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.requests) < count and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (place / "out" / "dataset_dict.json").exists()
    server.delay = 0.0
    assert subprocess.run(command).returncode == 0
    (journal,) = (place / "out" / ".augment").glob("translations-*.jsonl")
    keys = [json.loads(line)["key"] for line in journal.read_text("utf-8").splitlines()[1:]]
    assert len(keys) == len(set(keys))
    # what was under way at a kill is asked again, and nothing else
    assert len(server.requests) <= len(keys) + 3 * 2
    undisturbed = [*command[: command.index("out")], "clean", *command[command.index("out") + 1 :]]
    assert subprocess.run(undisturbed).returncode == 0
    assert _train(place / "out") == _train(place / "clean")
    assert (place / "out" / "step_pairs.jsonl").read_bytes() == (place / "clean" / "step_pairs.jsonl").read_bytes()


@pytest.mark.slow
def test_local_translators_and_a_training(place, tiny_model, tokenizer, capsys):
    """Random weights give no usable paraphrase; that is counted, and the run finishes."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    tiny.save_model(place / "chat", tiny_model, tokenizer)
    torch.manual_seed(0)
    size = len(tokenizer)
    config = MarianConfig(
        vocab_size=size, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.pad_token_id, forced_eos_token_id=None,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(place / "marian")
    tokenizer.save_pretrained(place / "marian")
    for name in ("chat", "marian"):
        command = ["augment", "--dataset_name", "data", "--output_dir", f"out-{name}", "--back_translation", "0.2"]
        command += ["--translator_model_name_or_path", name, "--max_completion_length", "12", "--use_cpu"]
        assert main([*command, "--distractors", "0.5"]) == 0, name
        assert "thrown away" in capsys.readouterr().out
    options = ["--model_name_or_path", "chat", "--output_dir", "trained", "--max_steps", "2", "--use_cpu", "true"]
    options += ["--bf16", "false", "--eval_strategy", "no", "--max_test_records", "0", "--report_to", "none"]
    assert main(["sft", "--dataset_name", "out-chat", *options]) == 0
