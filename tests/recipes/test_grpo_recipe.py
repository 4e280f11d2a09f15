"""`recipes/grpo.py`: alone, on two processes, interrupted and resumed, and its errors."""

import json
from pathlib import Path

import pytest
import tiny
from rich.text import Text

from hf_reason.cli.grpo_arguments import RewardArguments
from hf_reason.cli.sampled import lines
from hf_reason.text.written import WrittenChain
from hf_reason.trainers import StepGRPOTrainer

SETTINGS = {
    "per_device_train_batch_size": 4,
    "num_generations": 4,
    "max_completion_length": 24,
    "learning_rate": 1e-3,
    "instructions": "default",
}
TEXTS = (
    "<think>\n步骤1:3+4=7\n步骤2:7-2=5\n</think>\n\n5",
    "<think>\n步骤1:3+4=8\n</think>\n\n6",
    "<think>\n步骤1:1+1=3",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory, _session_tokenizer) -> str:
    return tiny.save_model(tmp_path_factory.mktemp("base"), tiny.tiny_qwen2(_session_tokenizer), _session_tokenizer)


@pytest.fixture
def writes(monkeypatch) -> None:
    """Whatever the model is, it writes these completions (an untrained one writes nothing that ends)."""

    def generate(self, prompts, *args, **kwargs):
        # what the model would draw decides, so that a resumed run can be told from another
        import torch

        found = []
        for row in range(len(prompts)):
            text = TEXTS[(row + int(torch.randint(2, ()))) % len(TEXTS)]
            end = [self._tokenizer.eos_token_id] if "</think>" in text else []
            found.append(self._tokenizer(text, add_special_tokens=False)["input_ids"] + end)
        return found, None

    monkeypatch.setattr(StepGRPOTrainer, "_generate_single_turn", generate)


def _arguments(tmp_path, dataset, base, output, *extra, **settings) -> list[str]:
    settings = {**SETTINGS, "dataset_name": dataset, "model_name_or_path": base, **settings}
    path = tmp_path / "config.yaml"
    arguments = tiny.recipe_arguments(tmp_path, output, *extra, **settings)
    # GRPO makes its own rows
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("max_length")))
    return arguments


def test_a_run_and_what_it_leaves(tmp_path, dataset, base, run_here, writes):
    output = tmp_path / "out"
    rewards = {"reward_funcs": ["answer", "step", "length"], "reward_weights": [1, 0.5, 0.1]}
    arguments = _arguments(tmp_path, dataset, base, output, step_weight=0.4, **rewards)
    done = run_here("grpo.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "44 training problems" in done.stdout and "4 updates of 4 completions, 4 of each problem" in done.stdout
    assert "rewards: answer_reward, step_reward, length_reward" in done.stdout
    assert "Sampled: " in done.stdout and "x 1. " in done.stdout and "answer_reward 0" in done.stdout
    assert {"model.safetensors", "README.md", "evaluation", "instructions.yaml"} <= {p.name for p in output.iterdir()}
    card = (output / "README.md").read_text()
    assert "| reward_funcs |" in card and "| step_weight | 0.4 |" in card and str(tmp_path) not in card
    assert json.loads((output / "evaluation" / "evaluation.json").read_text())["num_records"] == 3
    assert "is finished: nothing to do" in run_here("grpo.py", *arguments).stdout


@pytest.mark.slow
def test_interrupted_run_resumes(tmp_path, dataset, base, monkeypatch, run_here, writes):
    assert run_here("grpo.py", *_arguments(tmp_path, dataset, base, tmp_path / "whole")).returncode == 0
    stopped = _arguments(tmp_path, dataset, base, tmp_path / "stopped")
    with monkeypatch.context() as patch:
        tiny.interrupt_at(patch, StepGRPOTrainer, step=3)
        done = run_here("grpo.py", *stopped)
    assert done.returncode == 130 and "resumes from checkpoint-2" in done.stderr
    done = run_here("grpo.py", *stopped)
    assert done.returncode == 0 and "Resuming from" in done.stdout, done.stderr
    for name in ("loss", "reward", "steps/right"):
        curves = [tiny.logged_curve(tmp_path / folder, name) for folder in ("stopped", "whole")]
        assert curves[0] == pytest.approx(curves[1], abs=1e-6)
    changed = _arguments(tmp_path, dataset, base, tmp_path / "stopped", "--step_weight", "0.1")
    Path(tmp_path / "stopped" / "evaluation" / "evaluation.json").unlink()
    assert "step_weight" in run_here("grpo.py", *changed).stderr


_SCRIPT = """
import sys
import torch
sys.path[:0] = [{tests!r}, {recipes!r}]
import test_grpo_recipe as test
from hf_reason.cli.main import main
from hf_reason.trainers import StepGRPOTrainer

def generate(self, prompts, *args, **kwargs):
    first = self.accelerator.process_index * len(prompts)
    found = []
    for row in range(first, first + len(prompts)):
        text = test.TEXTS[{row} % 3]
        end = [self._tokenizer.eos_token_id] if "</think>" in text else []
        found.append(self._tokenizer(text, add_special_tokens=False)["input_ids"] + end)
    return found, None

StepGRPOTrainer._generate_single_turn = generate
sys.exit(main(["grpo", *sys.argv[1:]]))
"""


def _script(tmp_path, row: str) -> Path:
    """`hf-reason grpo` in a process of its own, whose completions are TEXTS[row % 3]."""
    script = tmp_path / "grpo_script.py"
    script.write_text(
        _SCRIPT.format(tests=str(Path(__file__).parents[1]), recipes=str(Path(__file__).parent), row=row)
    )
    return script


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_rewards(tmp_path, dataset, base):
    # what the model would draw decides, so that a resumed run can be told from another
    script = _script(tmp_path, "(row + int(torch.randint(3, ())))")
    settings = {"max_steps": 30, "save_steps": 2}
    arguments = {
        name: _arguments(tmp_path, dataset, base, tmp_path / name, **settings) for name in ("whole", "killed")
    }
    assert tiny.run_python(str(script), *arguments["whole"]).returncode == 0
    tiny.kill_after_first_checkpoint(str(script), *arguments["killed"], output_dir=tmp_path / "killed")
    done = tiny.run_python(str(script), *arguments["killed"])
    assert done.returncode == 0 and "Resuming from" in done.stdout, done.stderr[-3000:]
    for name in ("loss", "reward", "steps/right"):
        curves = [tiny.logged_curve(tmp_path / folder, name) for folder in ("killed", "whole")]
        assert len(curves[0]) == 30 and curves[0] == pytest.approx(curves[1], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("taught", [False, True])
def test_two_processes_train_as_one(tmp_path, dataset, base, taught, _session_tokenizer):
    """A group of four is spread over both; baselines, losses and logs are those of one process, a teacher's too."""
    script = _script(tmp_path, "row")
    settings: dict = {"step_baseline": "running"}
    names = ["loss", "reward", "steps/right", "steps/count", "grad_norm"]
    if taught:
        teacher = tiny.tiny_qwen2(_session_tokenizer, seed=1)
        settings["teacher_model_name_or_path"] = tiny.save_model(tmp_path / "teacher", teacher, _session_tokenizer)
        settings["teacher_kl_weight"] = 0.5
        names += ["teacher_kl", "top_k_overlap"]
    curves = []
    for number, launcher in ((1, ()), (2, tiny.ON_TWO_PROCESSES)):
        output = tmp_path / str(number)
        sizes = {"per_device_train_batch_size": 4 // number, "expected_world_size": number}
        arguments = _arguments(tmp_path, dataset, base, output, **sizes, **settings)
        done = tiny.run_python(*launcher, str(script), *arguments)
        assert done.returncode == 0, done.stderr[-3000:]
        curves.append([tiny.logged_curve(output, name) for name in names])
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, abs=1e-4) and one


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--reward_funcs", "answr"], "there is no reward answr"),
        (["--reward_funcs", "no.such"], "no.such cannot be imported"),
        (["--reward_funcs", "os.sep"], "is a str, not a function"),
        (["--reward_funcs", "answer", "step", "--reward_weights", "1"], "reward_weights has 1 numbers"),
        (["--length_buffer", "3"], "length_buffer belongs to"),
        (["--num_generations", "1"], "at least 2 generations"),
        (["--num_generations", "3"], "must be divisible by num_generations"),
        (["--difficulty_from", "no/such"], "no file no/such"),
        (["--teacher_kl_weight", "0.1"], "There is no teacher"),
        (["--teacher_kl_weight", "0.1", "--teacher_model_name_or_path", "./no"], "no such folder"),
        ([], "Raise max_completion_length"),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, dataset, base, run_here, extra, message):
    done = run_here("grpo.py", *_arguments(tmp_path, dataset, base, tmp_path / "out", *extra))
    tiny.assert_one_line_error(done, message)


def test_the_sampled_completion_in_colours():
    chain = WrittenChain(["3+4=7", "看", "7-2=4"], [], "4", True, True)
    sample = {
        "example": {"context": "P", "answer": "5"},
        "chain": chain,
        "verdicts": [1.0, None, 0.0],
        "rewards": {"answer_reward": 0.0},
    }
    shown = lines(sample)
    assert all(isinstance(line, Text) for line in shown)
    assert [line.plain for line in shown] == [
        "Sampled: P",
        "  + 1. 3+4=7",
        "    2. 看",
        "  x 3. 7-2=4",
        "  Answer: 4 (reference: 5); answer_reward 0",
    ]
    assert [str(line.style) for line in shown] == ["bold", "green", "", "red", ""]


def test_rewards_by_name():
    functions = RewardArguments(["answer", "length", "os.path.basename"]).functions(100, thinking=True)
    assert [function.__name__ for function in functions] == ["answer_reward", "length_reward", "basename"]
    assert functions[1].buffer == 20
    with pytest.raises(ValueError, match="'format' is for thoughts"):
        RewardArguments(["format"]).functions(100, thinking=False)
