"""recipes/evaluate.py as a user runs it: a folder with a model, a folder with data, one command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "evaluate.py"


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


def run(place, *arguments):
    return subprocess.run(
        [sys.executable, str(RECIPE), *arguments],
        capture_output=True,
        text=True,
        cwd=place,
        timeout=180,
        env={**os.environ, "HF_HOME": str(place / "cache"), "OMP_NUM_THREADS": "1"},
    )


def test_one_command_prints_the_table_and_writes_the_report(place):
    (place / "evaluate.yaml").write_text("max_new_tokens: 4\nlimit: 2\ndata: data\n")
    done = run(
        place,
        "--config",
        "evaluate.yaml",
        "--model",
        "model",
        "--limit",
        "4",
        "--output_dir",
        "report",
        "--distractors",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "answer accuracy" in done.stdout and "4 x 1" in done.stdout, "the command line wins over the file"
    results = json.loads((place / "report" / "evaluation.json").read_text())
    assert (results["num_records"], results["generation"]["max_new_tokens"]) == (4, 4)
    assert results["distracted_accuracy"] is not None
    assert len((place / "report" / "predictions.jsonl").read_text().splitlines()) == 4
    assert len(list((place / "report").glob("*.png"))) == 3


def evaluate(place, capsys, monkeypatch, *arguments):
    """The recipe inside this process: `main()` with these arguments; gives exit status, stdout, stderr."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("evaluate_recipe", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "evaluate_recipe", recipe)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [str(RECIPE), *arguments])
    spec.loader.exec_module(recipe)
    status = recipe.main()
    return status, *capsys.readouterr()


def test_models_are_compared_with_the_first(place, capsys, monkeypatch):
    (place / "other").symlink_to(place / "model")
    status, out, _ = evaluate(
        place,
        capsys,
        monkeypatch,
        "--model",
        "model",
        "other",
        "--data",
        "data",
        "--max_new_tokens",
        "2",
        "--domain",
        "math",
        "--split",
        "train",
    )
    assert status == 0
    assert "(+0.0)" in out and "3 x 1" in out and "other" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "./nowhere", "--data", "data"), "./nowhere: there is no such folder"),
        (("--model", "data", "--data", "data"), "--model data cannot be loaded"),
        (("--model", "model", "--data", "./nowhere"), "nowhere"),
        (("--model", "model", "--data", "data", "--split", "validation"), "no split 'validation'"),
        (("--model", "model", "--data", "data", "--domain", "maths"), "Unknown domain 'maths'"),
    ],
)
def test_a_wrong_path_or_name_is_one_clear_line(place, capsys, monkeypatch, arguments, message):
    status, _, errors = evaluate(place, capsys, monkeypatch, *arguments)
    lines = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert status == 2 and len(lines) == 1 and message in lines[0]
    assert "Traceback" not in errors
