"""`recipes/loar.py`: the whole flow alone and on two processes, interrupted and resumed, asked and evaluated again."""

import json

import pytest
import tiny

from hf_reason.models.loar.configuration import LoARConfig
from hf_reason.trainers import CoTSFTTrainer

SETTINGS = {
    "lora_dropout": 0.0,
    "train_sampling_strategy": "sequential",
    "calibration_records": 4,
    "budget": 0.5,
    "task_names": ["math"],
    "task_dropout": 0.0,
    "loar_window": 16,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of two layers and four key/value groups with the tests' tokenizer."""
    model = tiny.tiny_qwen2(_session_tokenizer, num_attention_heads=4, num_key_value_heads=4)
    return tiny.save_model(tmp_path_factory.mktemp("base"), model, _session_tokenizer)


def _arguments(tmp_path, dataset, base, output, *extra, **settings) -> list[str]:
    settings = {**SETTINGS, "dataset_name": dataset, "model_name_or_path": base, **settings}
    return tiny.recipe_arguments(tmp_path, output, *extra, **settings)


@pytest.mark.slow
def test_alone_on_two_processes_and_asked_afterwards(tmp_path, dataset, base, run_here):
    one = tmp_path / "one"
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, one, per_device_train_batch_size=8))
    assert done.returncode == 0, done.stderr
    assert "Question:" in done.stdout and "Answer:" in done.stdout and "Importance of each group on 4" in done.stdout
    written = {"model.safetensors", "loar_config.json", "loar.safetensors", "README.md"}
    assert written <= {path.name for path in one.iterdir()}
    assert LoARConfig.from_pretrained(one).prompt_end_ids
    assert "| loar_budgets | 2, 2 |" in (one / "README.md").read_text()
    two = tmp_path / "two"
    arguments = _arguments(tmp_path, dataset, base, two, expected_world_size=2)
    done = tiny.run_recipe("loar.py", *arguments, launcher=tiny.ON_TWO_PROCESSES)
    assert done.returncode == 0, done.stderr[-3000:]
    assert tiny.logged_curve(two) == pytest.approx(tiny.logged_curve(one), abs=1e-4)
    figures = json.loads((one / "evaluation" / "evaluation.json").read_text())
    evaluate = [
        "--model_name_or_path",
        str(one),
        "--dataset_name",
        dataset,
        "--max_records",
        "3",
        "--max_completion_length",
        "8",
    ]
    assert run_here("evaluate.py", *evaluate, "--output_dir", str(tmp_path / "report")).returncode == 0
    again = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    for name in ("template_hash", "answer_accuracy", "reasoning_length"):
        assert again[name] == figures[name]  # evaluate.py has found the adapter
    more = _arguments(tmp_path, dataset, str(one), tmp_path / "more", max_steps=1, budget=1.0)
    done = run_here("loar.py", *more)  # routers and budget are those of the saved one
    assert done.returncode == 0 and "LoAR of its own" in done.stdout and "worth" not in done.stdout, done.stderr
    saved = LoARConfig.from_pretrained(tmp_path / "more")
    assert saved.budgets(2, 4) == [2, 2] and saved.sliding_window == 16
    asked = run_here("ask.py", "--model_name_or_path", str(one), "--question", "1+1?", "--max_thought_tokens", "16")
    assert asked.returncode == 0, asked.stderr


def test_interrupted_run_resumes_with_a_lora(tmp_path, dataset, base, monkeypatch, run_here):
    options = {"use_peft": True, "lora_target_modules": ["q_proj", "v_proj"], "search_records": 2}
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, tmp_path / "whole", **options))
    assert done.returncode == 0 and "the uniform" in done.stdout, done.stderr
    stopped = _arguments(tmp_path, dataset, base, tmp_path / "stopped", **options)
    with monkeypatch.context() as patch:
        tiny.interrupt_at(patch, CoTSFTTrainer, step=3)
        assert run_here("loar.py", *stopped).returncode == 130
    assert run_here("loar.py", *stopped).returncode == 0
    assert tiny.logged_curve(tmp_path / "stopped") == pytest.approx(tiny.logged_curve(tmp_path / "whole"), abs=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--budget", "2"], "budget must be a fraction"),
        (["--budget", "1,2,3"], "2 layers of 4 groups"),
        (["--budget", "much"], "neither a ratio nor a list"),
        (["--static_groups", "[[0],"], "not JSON"),
        (["--packing", "true"], "--packing false"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, dataset, base, run_here, extra, message):
    done = run_here("loar.py", *_arguments(tmp_path, dataset, base, tmp_path / "out", *extra))
    tiny.assert_one_line_error(done, message)
