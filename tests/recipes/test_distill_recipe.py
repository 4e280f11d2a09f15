"""recipes/cache_teacher.py and recipes/distill_kl.py from the command line, alone and on two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Qwen2Config, Qwen2ForCausalLM

RECIPES = Path(__file__).parents[2] / "recipes"
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SETTINGS = {
    "model_type": "qwen2",
    "model_config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
    },
    "max_steps": 4,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "max_length": 512,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "report_to": "none",
    "logging_steps": 1,
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 2,
    "eval_records": 2,
    "test_records": 3,
    "eval_max_new_tokens": 8,
    "dataloader_pin_memory": False,
    "train_sampling_strategy": "sequential",
    "eval_distractors": False,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of four layers with the tests' tokenizer."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(_session_tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=_session_tokenizer.eos_token_id,
        pad_token_id=_session_tokenizer.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    _session_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, dataset, teacher) -> str:
    """The teacher's cache of all three splits, written by two processes in shards of ten."""
    folder = str(tmp_path_factory.mktemp("cached") / "cache")
    done = _run(_cache_command(dataset, teacher, folder), launcher=TWO)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "bytes a token" in done.stdout and "error" in done.stdout
    return folder


def _cache_command(dataset, teacher, folder, *extra):
    options = ["--k", "64", "--path", "true", "--rows_per_shard", "10", "--use_cpu", "true"]
    where = ["--dataset", dataset, "--teacher", teacher, "--output_dir", folder]
    return [str(RECIPES / "cache_teacher.py"), *where, *options, *extra]


def _command(tmp_path, dataset, *extra, **settings):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({**SETTINGS, "dataset": dataset, **settings}, allow_unicode=True))
    return [str(RECIPES / "distill_kl.py"), "--config", str(config), *extra]


def _run(command, launcher=()):
    return subprocess.run(
        [sys.executable, *launcher, *command], capture_output=True, text=True, env={**os.environ}, timeout=200
    )


def _curve(output, name="loss"):
    history = json.loads((Path(output) / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row[name] for row in history if name in row}


@pytest.mark.parametrize("source", ["live", "cache"])
def test_two_processes_train_as_one(tmp_path, dataset, teacher, cache, source):
    where = {"live": teacher, "cache": cache}[source]
    curves = []
    for name, size, launcher in (("two", 4, TWO), ("one", 8, ())):
        command = _command(
            tmp_path,
            dataset,
            "--output_dir",
            str(tmp_path / name),
            "--teacher",
            where,
            path_weight=1.0,
            per_device_train_batch_size=size,
            expected_world_size=len(launcher) and 2 or 1,
        )
        done = _run(command, launcher)
        assert done.returncode == 0, done.stderr[-3000:]
        curves.append([_curve(tmp_path / name, figure) for figure in ("loss", "kl", "ce", "path")])
    for two, one in zip(*curves, strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    assert json.loads((tmp_path / "one" / "evaluation" / "evaluation.json").read_text())["num_records"] == 3
    card = (tmp_path / "one" / "README.md").read_text()
    assert "kl_weight" in card and "teacher" in card
    assert str(Path(where).parent) not in card  # a card is public


def test_killed_run_goes_on_with_a_student_out_of_its_teacher(tmp_path, dataset, teacher, cache):
    options = {"max_steps": 12, "save_steps": 3, "student_layers": 2, "teacher": cache}
    options |= {"model_config": None, "student_config": {"hidden_size": 16}}
    whole = _run(_command(tmp_path, dataset, "--output_dir", str(tmp_path / "whole"), **options))
    assert whole.returncode == 0, whole.stderr[-3000:]
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (2, 16)
    killed = tmp_path / "killed"
    command = [sys.executable, *_command(tmp_path, dataset, "--output_dir", str(killed), **options)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 150
    while not list(killed.glob("checkpoint-*/trainer_state.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "trainer_state.json").exists()
    resumed = _run(_command(tmp_path, dataset, "--output_dir", str(killed), **options))
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert _curve(killed) == pytest.approx(_curve(tmp_path / "whole"), abs=1e-6)


def test_finished_cache_is_not_made_again(dataset, teacher, cache):
    before = {path: path.stat().st_mtime_ns for path in Path(cache).glob("*.parquet")}
    done = _run(_cache_command(dataset, teacher, cache, "--student", teacher))
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path: path.stat().st_mtime_ns for path in Path(cache).glob("*.parquet")} == before
    assert "KL to " + teacher in done.stdout


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--teacher", "./nothing"], "nothing"),
        (["--teacher", "self"], "LoRA"),
        ([], "There is no teacher"),
        (["--student_layers", "9"], "has 4 layers"),
        (["--student_layers", "2", "--teacher", "http://127.0.0.1:9/v1"], "has to be a model at hand"),
    ],
)
def test_errors_are_one_line_with_the_mend(tmp_path, dataset, teacher, run_here, extra, message):
    extra = ["--teacher", teacher, *extra] if "9" in extra else extra
    settings = {"model_config": None} if "--student_layers" in extra else {"tokenizer_name_or_path": teacher}
    _, *arguments = _command(tmp_path, dataset, "--output_dir", str(tmp_path / "out"), *extra, **settings)
    done = run_here("distill_kl.py", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [(["--k", "100000"], "k must be between"), (["--teacher", "http://127.0.0.1:9/v1"], "needs teacher_tokenizer")],
)
def test_errors_of_caching(tmp_path, dataset, teacher, run_here, extra, message):
    done = run_here("cache_teacher.py", *_cache_command(dataset, teacher, str(tmp_path / "cache"), *extra)[1:])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and message in done.stderr.strip().splitlines()[-1]
