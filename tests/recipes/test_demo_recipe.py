"""`demo` from end to end, with models too small to learn."""

import json

import pytest
from tiny import TINY_SIZES, TINY_STEP_SIZES, run_python, run_recipe

SMALL = {"max_position_embeddings": 512, "num_key_value_heads": 2}
TINY, STEP_TINY = json.dumps(TINY_SIZES | SMALL), json.dumps(TINY_STEP_SIZES | SMALL)
FAST = [
    *("--max_steps", "4", "--save_steps", "4", "--eval_steps", "4", "--warmup_steps", "1", "--logging_steps", "1"),
    *("--lr_scheduler_kwargs", '{"num_decay_steps": 2}', "--per_device_train_batch_size", "4"),
    *("--max_eval_records", "2", "--max_test_records", "6", "--eval_max_completion_length", "16"),
    *("--model_config", TINY, "--use_cpu", "true"),
]


@pytest.mark.slow
def test_demo_runs_to_the_end_and_the_second_time_only_asks(tmp_path):
    command = ["-m", "hf_reason.cli", "demo", "--output_dir", str(tmp_path), "--num_problems", "300"]
    first = run_python(*command, *FAST)
    assert first.returncode == 0, (first.stdout + first.stderr)[-3000:]
    assert len(first.stdout.splitlines()) < 200 and first.stderr.count("\n") < 100
    for words in ("CoT", "direct answers", "exact answers on", "Question:", "Answer:"):
        assert words in first.stdout
    for path in ("data/report.html", "comparison/evaluation.json", "demo/README.md", "demo_direct/model.safetensors"):
        assert (tmp_path / path).is_file()
    figures = json.loads((tmp_path / "comparison" / "evaluation.json").read_text())
    assert set(figures) == {"CoT", "direct answers"}
    trained = (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns
    second = run_python(*command, *FAST, "--question", "小明有12个苹果,卖出8个。现在有多少个苹果?")
    assert second.returncode == 0, second.stderr[-3000:]
    assert "小明有12个苹果,卖出8个" in second.stdout
    assert (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns == trained
    # the second half trains only the model that is missing, and shows all three
    small = [STEP_TINY if word == TINY else word for word in FAST]
    third = run_python(*command, *small, "--step_reasoner", "--question", "小明有12个苹果,卖出8个。现在有多少个苹果?")
    assert third.returncode == 0, (third.stdout + third.stderr)[-3000:]
    figures = json.loads((tmp_path / "comparison" / "evaluation.json").read_text())
    assert set(figures) == {"CoT", "direct answers", "StepReasoner"}
    assert third.stdout.count("小明有12个苹果") == 2, "both models that reason are asked"
    assert (tmp_path / "demo" / "model.safetensors").stat().st_mtime_ns == trained
    config = json.loads((tmp_path / "demo_step_reasoner" / "config.json").read_text())
    assert config["model_type"] == "step_reasoner"
    assert config["boundary_token_ids"] and config["trigger_token_ids"]


def test_a_training_run_that_fails_is_shown_with_its_log(tmp_path):
    done = run_recipe(
        "demo.py", "--output_dir", str(tmp_path), "--num_problems", "50", "--model_config", '{"hiden_size": 8}'
    )
    assert done.returncode == 2
    assert "no field hiden_size" in done.stderr
    assert "Traceback" not in done.stderr


def test_summary_of_a_model(tmp_path):
    from hf_reason.cli.demo import summary

    log = {"log_history": [{"loss": 1}, {"train_runtime": 12.3}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(log))
    groups = {"2": {"num_records": 3, "answer_accuracy": 1.0}, "3": {"num_records": 1, "answer_accuracy": 0.0}}
    line = summary({"by_num_steps": groups | {"4": {"num_records": 9, "answer_accuracy": 0.0}}}, tmp_path)
    assert line == "75.0% exact answers on 4 problems of 2 and 3 operations, after 12 s of training"
