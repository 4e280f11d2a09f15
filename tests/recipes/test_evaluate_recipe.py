"""`evaluate` as a user runs it: a folder with a model, a folder with data, one command."""

import json
import shutil

import pytest
from tiny import run_recipe

from hf_reason.cli.main import main


@pytest.fixture
def place(tmp_path, tokenizer, tiny_model, records):
    """A folder with `model/`, prepared `data/` (train and test) and a cache of its own."""
    from datasets import Dataset, DatasetDict

    from hf_reason.data.record import record_features

    tiny_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    splits = {"train": records[:3], "test": records[3:9]}
    features = record_features()
    DatasetDict({name: Dataset.from_list(rows, features=features) for name, rows in splits.items()}).save_to_disk(
        tmp_path / "data"
    )
    return tmp_path


def test_one_command_prints_the_table_and_writes_the_report(place):
    (place / "evaluate.yaml").write_text("max_completion_length: 4\nmax_records: 2\ndataset_name: data\n")
    done = run_recipe(
        "evaluate.py",
        *("--config", "evaluate.yaml", "--model_name_or_path", "model", "--max_records", "4"),
        *("--output_dir", "report", "--eval_distractors"),
        cwd=place,
        env={"HF_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "answer accuracy" in done.stdout and "4 x 1" in done.stdout, "the command line wins over the file"
    results = json.loads((place / "report" / "evaluation.json").read_text())
    assert (results["num_records"], results["generation"]["max_new_tokens"]) == (4, 4)
    assert results["distracted_accuracy"] is not None
    assert len((place / "report" / "predictions.jsonl").read_text().splitlines()) == 4
    assert len(list((place / "report").glob("*.png"))) == 3


@pytest.fixture
def evaluate(place, capsys, monkeypatch):
    """The command inside this process: gives exit code, stdout, stderr."""
    monkeypatch.chdir(place)

    def run(*arguments):
        code = main(["evaluate", *arguments])
        return code, *capsys.readouterr()

    return run


def test_models_are_compared_with_the_first(place, evaluate):
    (place / "other").symlink_to(place / "model")
    status, out, _ = evaluate(
        *("--model_name_or_path", "model", "other", "--dataset_name", "data", "--max_completion_length", "2"),
        *("--domain", "math", "--split", "train"),
    )
    assert status == 0
    assert "(+0.0)" in out and "3 x 1" in out and "other" in out


def test_both_modes_of_a_hybrid_model_are_reported_apart(place, evaluate):
    given = ["--dataset_name", "data", "--split", "train"]
    given += ["--max_completion_length", "24", "--max_thought_tokens", "16"]
    both = (*given, "--thinking", "true", "false", "--output_dir", "report")
    status, out, _ = evaluate("--model_name_or_path", "model", *both)
    assert status == 0 and "model (thinking)" in out and "model (no thinking)" in out
    found = json.loads((place / "report" / "evaluation.json").read_text())
    assert {name: one["generation"]["thinking"] for name, one in found.items()} == {
        "model (thinking)": True,
        "model (no thinking)": False,
    }
    assert "max_thought_tokens" not in found["model (no thinking)"]["generation"]
    rows = [json.loads(line) for line in (place / "report" / "predictions.jsonl").read_text().splitlines()]
    assert [row["model"] for row in rows] == ["model (thinking)"] * 3 + ["model (no thinking)"] * 3
    # several models: a table for each mode, compared with the first model in that mode
    (place / "other").symlink_to(place / "model")
    (place / "modes.yaml").write_text("thinking: [false, true]\nmodel_name_or_path: [model, other]\n")
    status, out, _ = evaluate("--config", "modes.yaml", *given)
    first, second = out.split("records x samples")[:2]
    assert status == 0 and "other (no thinking)" in first and "(thinking)" not in first
    assert "other (thinking)" in second and "(+0.0)" in second


def test_two_modes_need_a_switch(place, evaluate, tokenizer):
    from chat_templates import QWEN2_5_TEMPLATE

    tokenizer.chat_template = QWEN2_5_TEMPLATE
    tokenizer.save_pretrained(place / "model")
    given = ("--model_name_or_path", "model", "--dataset_name", "data", "--thinking")
    status, _, error = evaluate(*given, "true", "false")
    assert status == 2 and "model: its chat template has no switch between thinking and not" in error
    status, _, error = evaluate(*given, "maybe")
    assert status == 2 and "thinking must be true or false, got 'maybe'" in error


def test_raw_questions_with_answers_only(place, evaluate):
    rows = [{"question": f"{number}+1=?", "answer": str(number + 1)} for number in range(3)]
    (place / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = evaluate(
        *("--model_name_or_path", "model", "--dataset_name", "own.jsonl", "--max_completion_length", "2")
    )
    assert status == 0, err
    assert "3 x 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model_name_or_path", "./nowhere"), "./nowhere: there is no such folder"),
        (("--model_name_or_path", "data"), "There is no model in data (no config.json)."),
        (("--model_name_or_path", "stopped"), "There is no model in stopped (no config.json). Its training is not"),
        (("--model_name_or_path", "bare"), "no tokenizer files in bare. Give tokenizer_name_or_path"),
        (
            ("--model_name_or_path", "bare", "--tokenizer_name_or_path", "data"),
            "--tokenizer_name_or_path 'data' cannot be",
        ),
        (("--model_name_or_path", "model", "--dataset_name", "./nowhere"), "nowhere"),
        (("--model_name_or_path", "model", "--split", "validation"), "no split 'validation'"),
        (("--model_name_or_path", "model", "--domain", "maths"), "Unknown domain 'maths'"),
        (("--model", "model"), "--model was renamed to --model_name_or_path"),
        (("--limit", "3"), "--limit was renamed to --max_records"),
        ((), "there is no model. Give --model_name_or_path"),
    ],
)
def test_a_wrong_path_or_name_is_one_clear_line(place, evaluate, arguments, message):
    shutil.copytree(place / "model", place / "bare", ignore=shutil.ignore_patterns("tokenizer*", "chat_template*"))
    (place / "stopped" / "checkpoint-3").mkdir(parents=True)
    (place / "stopped" / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')
    data = () if "--dataset_name" in arguments else ("--dataset_name", "data")
    status, _, errors = evaluate(*arguments, *data)
    lines = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert status == 2 and len(lines) == 1 and message in lines[0]
    assert "Traceback" not in errors
