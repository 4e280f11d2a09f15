"""`recipes/lora_reasoner.py`: alone, on two processes, interrupted and resumed, and its errors."""

import json

import pytest
import tiny

from hf_reason.trainers import ReasonerLoRATrainer

SETTINGS = {
    "lora_dropout": 0.0,
    "train_sampling_strategy": "sequential",
    "reasoner_ratio": 0.5,
    "ranking_records": 6,
    "lora_target_modules": "all-linear",
    "instructions": "default",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory, _session_tokenizer) -> str:
    """A saved Qwen2 of four layers with the tests' tokenizer."""
    model = tiny.tiny_qwen2(_session_tokenizer, num_hidden_layers=4)
    return tiny.save_model(tmp_path_factory.mktemp("base"), model, _session_tokenizer)


def _arguments(tmp_path, dataset, base, output, *extra, **settings) -> list[str]:
    settings = {**SETTINGS, "dataset_name": dataset, "model_name_or_path": base, **settings}
    return tiny.recipe_arguments(tmp_path, output, *extra, **settings)


@pytest.mark.slow
def test_alone_and_on_two_processes(tmp_path, dataset, base, run_here):
    """Two processes rank the same layers and train as one does with twice the batch."""
    one = tmp_path / "one"
    arguments = _arguments(tmp_path, dataset, base, one, per_device_train_batch_size=8)
    done = run_here("lora_reasoner.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "rank  layer" in done.stdout and "Trainable: " in done.stdout
    assert "No weight of the base model moved" in done.stdout
    written = {"adapter_model.safetensors", "base_model.json", "instructions.yaml", "reasoner_layers.png", "README.md"}
    assert written <= {path.name for path in one.iterdir()}
    card = (one / "README.md").read_text()
    assert "| lora_r | 16 |" in card and "| lora_target_modules | all-linear |" in card
    assert "None" not in card and str(tmp_path) not in card and "eval_strategy" not in card
    assert "is finished: nothing to do" in run_here("lora_reasoner.py", *arguments).stdout
    two = tmp_path / "two"
    arguments = _arguments(tmp_path, dataset, base, two, expected_world_size=2)
    done = tiny.run_recipe("lora_reasoner.py", *arguments, launcher=tiny.ON_TWO_PROCESSES)
    assert done.returncode == 0, done.stderr[-3000:]
    layers = [json.loads((folder / "reasoner_layers.json").read_text())["layers"] for folder in (one, two)]
    assert layers[0] == layers[1] and len(layers[0]) == 2
    assert tiny.logged_curve(two) == pytest.approx(tiny.logged_curve(one), abs=1e-4)


def test_interrupted_run_resumes(tmp_path, dataset, base, monkeypatch, run_here):
    assert run_here("lora_reasoner.py", *_arguments(tmp_path, dataset, base, tmp_path / "whole")).returncode == 0
    stopped = _arguments(tmp_path, dataset, base, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        tiny.interrupt_at(patch, ReasonerLoRATrainer, step=3)
        done = run_here("lora_reasoner.py", *stopped)
    assert done.returncode == 130 and "resumes from checkpoint-" in done.stderr
    done = run_here("lora_reasoner.py", *stopped)
    assert done.returncode == 0, done.stderr
    # the ranking is read, not made again
    assert "Resuming from" in done.stdout and "rank  layer" not in done.stdout
    assert tiny.logged_curve(tmp_path / "stopped") == pytest.approx(tiny.logged_curve(tmp_path / "whole"), abs=1e-6)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--domain", "legal"], "no record of the domain 'legal'"),
        (["--instructions", "no/such.yaml"], "no file no/such.yaml"),
        (["--reasoner_layers", "9"], "no layer '9'"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
        (["--domain_ratios", '{"law": 1}'], "no domain law"),
        (["--load_in_4bit", "true", "--reasoner_ratio", "2"], "reasoner_ratio"),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, dataset, base, run_here, extra, message):
    done = run_here("lora_reasoner.py", *_arguments(tmp_path, dataset, base, tmp_path / "out", *extra))
    tiny.assert_one_line_error(done, message)
