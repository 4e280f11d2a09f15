"""recipes/cache_teacher.py and recipes/distill_kl.py from the command line, alone and on two processes."""

import json
from pathlib import Path

import pytest
import tiny

SETTINGS = {
    "model_type": "qwen2",
    "model_config": tiny.TINY_SIZES,
    "learning_rate": 1e-3,
    "eval_strategy": "no",
    "max_eval_records": 2,
    "train_sampling_strategy": "sequential",
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of four layers with the tests' tokenizer."""
    model = tiny.tiny_qwen2(
        _session_tokenizer,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return tiny.save_model(tmp_path_factory.mktemp("teacher"), model, _session_tokenizer)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, dataset, teacher) -> str:
    """The teacher's cache of all three splits, written by two processes in shards of ten."""
    folder = str(tmp_path_factory.mktemp("cached") / "cache")
    done = tiny.run_recipe(
        "cache_teacher.py", *_cache_arguments(dataset, teacher, folder), launcher=tiny.ON_TWO_PROCESSES
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "bytes a token" in done.stdout and "error" in done.stdout
    return folder


def _cache_arguments(dataset, teacher, folder, *extra):
    options = ["--top_k", "64", "--path_consistency", "true", "--rows_per_shard", "10", "--use_cpu", "true"]
    where = ["--dataset_name", dataset, "--teacher_model_name_or_path", teacher, "--output_dir", folder]
    return [*where, *options, *extra]


def _arguments(tmp_path, dataset, name, *extra, **settings):
    """Of a run that writes `tmp_path/name`."""
    return tiny.recipe_arguments(
        tmp_path, tmp_path / name, *extra, **{**SETTINGS, "dataset_name": dataset, **settings}
    )


@pytest.mark.parametrize("source", [pytest.param("live", marks=pytest.mark.slow), "cache"])
def test_two_processes_train_as_one(tmp_path, dataset, teacher, cache, source, run_here):
    where = {"live": teacher, "cache": cache}[source]
    options = {"teacher_model_name_or_path": where, "path_weight": 1.0, "kl_weight": 0.75}
    two = _arguments(tmp_path, dataset, "two", expected_world_size=2, **options)
    done = tiny.run_recipe("distill_kl.py", *two, launcher=tiny.ON_TWO_PROCESSES)
    assert done.returncode == 0, done.stderr[-3000:]
    one = _arguments(tmp_path, dataset, "one", per_device_train_batch_size=8, expected_world_size=1, **options)
    done = run_here("distill_kl.py", *one)
    assert done.returncode == 0, done.stderr[-3000:]
    for figure in ("loss", "kl", "ce", "path"):
        curves = [tiny.logged_curve(tmp_path / name, figure) for name in ("one", "two")]
        assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    assert json.loads((tmp_path / "one" / "evaluation" / "evaluation.json").read_text())["num_records"] == 3
    card = (tmp_path / "one" / "README.md").read_text()
    assert "kl_weight" in card and "teacher" in card
    assert str(Path(where).parent) not in card  # a card is public


def test_killed_run_resumes_with_a_student_out_of_its_teacher(tmp_path, dataset, teacher, cache, run_here):
    options = {"max_steps": 12, "save_steps": 3, "student_layers": 2, "teacher_model_name_or_path": cache}
    options |= {"model_config": None, "student_config": {"hidden_size": 16}}
    whole = run_here("distill_kl.py", *_arguments(tmp_path, dataset, "whole", **options))
    assert whole.returncode == 0, whole.stderr[-3000:]
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 16)
    arguments = _arguments(tmp_path, dataset, "killed", **options)
    tiny.kill_after_first_checkpoint("distill_kl.py", *arguments, output_dir=tmp_path / "killed")
    resumed = run_here("distill_kl.py", *arguments)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert tiny.logged_curve(tmp_path / "killed") == pytest.approx(tiny.logged_curve(tmp_path / "whole"), abs=1e-6)


def test_finished_cache_is_not_made_again(dataset, teacher, cache, run_here):
    before = {path: path.stat().st_mtime_ns for path in Path(cache).glob("*.parquet")}
    done = run_here(
        "cache_teacher.py", *_cache_arguments(dataset, teacher, cache, "--student_model_name_or_path", teacher)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in Path(cache).glob("*.parquet")} == before
    assert "KL to " + teacher in done.stdout


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--teacher_model_name_or_path", "./nothing"], "nothing"),
        (["--teacher_model_name_or_path", "self"], "LoRA"),
        ([], "There is no teacher"),
        (["--student_layers", "9"], "has 4 layers"),
        (
            ["--student_layers", "2", "--teacher_model_name_or_path", "http://127.0.0.1:9/v1"],
            "must be a model's folder",
        ),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, dataset, teacher, run_here, extra, message):
    extra = ["--teacher_model_name_or_path", teacher, *extra] if "9" in extra else extra
    settings = {"model_config": None} if "--student_layers" in extra else {"tokenizer_name_or_path": teacher}
    done = run_here("distill_kl.py", *_arguments(tmp_path, dataset, "out", *extra, **settings))
    tiny.assert_one_line_error(done, message)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--top_k", "100000"], "top_k must be between"),
        (["--teacher_model_name_or_path", "http://127.0.0.1:9/v1"], "needs --teacher_tokenizer_name_or_path"),
    ],
)
def test_errors_of_caching(tmp_path, dataset, teacher, run_here, extra, message):
    done = run_here("cache_teacher.py", *_cache_arguments(dataset, teacher, str(tmp_path / "cache"), *extra))
    tiny.assert_one_line_error(done, message)
