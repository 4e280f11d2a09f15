"""`recipes/sft_cot.py` from the command line: train, resume, evaluate, card, push, and its errors."""

import json

import pytest
import tiny
from hub_server import HubServer

SETTINGS = {
    "model_type": "qwen2",
    "vocab_size": 400,
    "model_config": tiny.TINY_SIZES,
    "learning_rate": 1e-3,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "step_accuracy",
    "greater_is_better": True,
    "max_eval_records": 2,
}
ANSWER = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": "小明有12个苹果,卖出8个。现在有多少个苹果?"}],
    add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=8, do_sample=False)
print(json.dumps([output[0].tolist(), model.generation_config.eos_token_id]))
"""


def _arguments(tmp_path, dataset, name, *extra, **settings) -> list[str]:
    """Of a run that writes `tmp_path/name`."""
    return tiny.recipe_arguments(
        tmp_path, tmp_path / name, *extra, **{**SETTINGS, "dataset_name": dataset, **settings}
    )


def test_run_is_evaluated_documented_and_pushed(tmp_path, dataset):
    """Through a Hub on loopback: a fresh process loads the pushed model and gives the same answer (pain 5, too)."""
    output = tmp_path / "out"
    with HubServer(tmp_path / "hub") as hub:
        options = ["--push_to_hub", "true", "--hub_model_id", "tester/reasoner"]
        done = tiny.run_recipe("sft_cot.py", *_arguments(tmp_path, dataset, "out", *options), env=hub.env("trainer"))
        assert done.returncode == 0, done.stderr[-3000:]
        script = tmp_path / "answer.py"
        script.write_text(ANSWER)
        local = tiny.run_python(str(script), str(output))
        pushed = tiny.run_python(str(script), "tester/reasoner", env=hub.env("somebody else"))
        assert pushed.returncode == 0, pushed.stderr[-3000:]
        assert json.loads(pushed.stdout) == json.loads(local.stdout)
        files = hub.files("tester/reasoner")
        assert not [name for name in files if name.startswith("checkpoint-")]
        assert b"step accuracy" in files["README.md"].lower()
    figures = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert figures["num_records"] == 3
    assert list((output / "evaluation").glob("*.png"))
    assert tiny.logged_curve(output).keys() == {1, 2, 3, 4}
    assert json.loads(local.stdout)[1] == json.loads((output / "generation_config.json").read_text())["eos_token_id"]


def test_killed_run_resumes_and_repeats_the_uninterrupted_curve(tmp_path, dataset, run_here):
    options = {"max_steps": 12, "save_steps": 3, "eval_steps": 3, "load_best_model_at_end": False}
    whole = run_here("sft_cot.py", *_arguments(tmp_path, dataset, "whole", **options))
    assert whole.returncode == 0, whole.stderr[-3000:]
    arguments = _arguments(tmp_path, dataset, "killed", **options)
    tiny.kill_after_first_checkpoint("sft_cot.py", *arguments, output_dir=tmp_path / "killed")
    resumed = run_here("sft_cot.py", *arguments)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert tiny.logged_curve(tmp_path / "killed") == pytest.approx(tiny.logged_curve(tmp_path / "whole"), abs=1e-6)


def test_two_processes_train_together(tmp_path, dataset, run_here):
    """Under torchrun the two processes are one run; its data are those of one process with twice the batch."""
    base = {"train_sampling_strategy": "sequential", "eval_strategy": "no", "load_best_model_at_end": False}
    two = _arguments(tmp_path, dataset, "two", expected_world_size=2, **base)
    done = tiny.run_recipe("sft_cot.py", *two, launcher=tiny.ON_TWO_PROCESSES)
    assert done.returncode == 0, done.stderr[-3000:]
    one = _arguments(tmp_path, dataset, "one", per_device_train_batch_size=8, **base)
    assert run_here("sft_cot.py", *one).returncode == 0
    assert tiny.logged_curve(tmp_path / "two") == pytest.approx(tiny.logged_curve(tmp_path / "one"), abs=1e-4)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--dataset_name", "no/such/folder"], "no/such/folder"),
        (["--domain", "magic"], "magic"),
        (["--model_name_or_path", "./nothing"], "nothing"),
        (["--expected_world_size", "2"], "torchrun"),
        (["--max_length", "5"], "Raise max_length"),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, dataset, run_here, extra, message):
    done = run_here("sft_cot.py", *_arguments(tmp_path, dataset, "out", *extra))
    tiny.assert_one_line_error(done, message)
