"""`recipes/continual.py`: three rounds, the guard, resume, two processes, adapters, and its errors."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from transformers import Qwen2Config, Qwen2ForCausalLM

from hf_reason.data.record import make_record
from hf_reason.data.word_problems import generate_word_problems
from hf_reason.evaluation.forgetting import load_history
from hf_reason.trainers import CoTSFTTrainer

RECIPE = str(Path(__file__).parents[2] / "recipes" / "continual.py")
SETTINGS = {
    "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_length": 512, "use_cpu": True,
    "gradient_checkpointing": False, "bf16": False, "disable_tqdm": True, "report_to": "none", "logging_steps": 1,
    "save_strategy": "steps", "save_steps": 1, "test_records": 2, "eval_max_new_tokens": 4, "lora_dropout": 0.0,
    "dataloader_pin_memory": False, "eval_distractors": False, "lora_target_modules": ["q_proj", "v_proj"],
    "train_sampling_strategy": "sequential",
}  # fmt: skip


def _save(folder, domain, count, seed):
    rows = [
        make_record(row["context"], row["steps"], row["answer"], domain=domain)
        for row in generate_word_problems(count, seed=seed, domain="finance" if domain == "finance" else "math")
    ]
    parts = {"train": rows[:-6], "validation": rows[-6:-3], "test": rows[-3:]}
    DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()}).save_to_disk(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, str]:
    """Prepared folders of three domains."""
    folder = tmp_path_factory.mktemp("domains")
    return {
        name: _save(folder / name, name, 26, seed) for seed, name in enumerate(("math", "finance", "legal"), start=20)
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory, _session_tokenizer) -> str:
    """A finished model of two layers."""
    folder = tmp_path_factory.mktemp("finished")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(_session_tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, bos_token_id=None,
        eos_token_id=_session_tokenizer.eos_token_id, pad_token_id=_session_tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    _session_tokenizer.save_pretrained(folder)
    return str(folder)


def _arguments(tmp_path, model, old, new, output, *extra, **settings) -> list[str]:
    config = tmp_path / "config.yaml"
    values = {**SETTINGS, "model_name_or_path": str(model), "old_dataset": old, "dataset": new, **settings}
    config.write_text(yaml.safe_dump(values, allow_unicode=True))
    return ["--config", str(config), "--output_dir", str(output), *extra]


def _run(monkeypatch, arguments) -> int:
    """The recipe in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", [RECIPE, *arguments])
    try:
        runpy.run_path(RECIPE, run_name="__main__")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _curve(output: Path) -> dict[int, float]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return {row["step"]: row["loss"] for row in history if "loss" in row}


def test_three_rounds_keep_one_history(tmp_path, data, model, monkeypatch, capsys):
    """A fresh LoRA, one more on the merged model, then the same one trained on; the history follows."""
    both = tmp_path / "both"
    DatasetDict(
        {
            split: Dataset.from_list([row for name in ("math", "finance") for row in _rows(data[name], split)])
            for split in ("train", "test")
        }
    ).save_to_disk(both)
    rounds = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["finance"], rounds[0])) == 0
    out = capsys.readouterr().out
    assert "25 training records: new 20 (finance 20), replayed 5 (math 5)" in out
    assert "backward transfer" in out
    two = _arguments(tmp_path, rounds[0], str(both), data["legal"], rounds[1], replay_share=0.5)
    assert _run(monkeypatch, two) == 0
    assert "replayed 20 (finance 10, math 10)" in capsys.readouterr().out
    assert (rounds[1] / "base" / "model.safetensors").is_file()
    adapter = json.loads((rounds[1] / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(rounds[1] / "base")
    more = _save(tmp_path / "more", "legal", 26, 99)
    three = _arguments(tmp_path, rounds[1], str(both), more, rounds[2], adapter="continue")
    assert _run(monkeypatch, three) == 0
    history = load_history(rounds[2])
    assert [entry.name for entry in history] == [Path(model).name, "one", "two", "three"]
    assert [entry.learned for entry in history] == [("math",), ("finance",), ("legal",), ()]
    assert set(history[2].accuracy) == {"math", "finance", "legal"} and history[2].records["legal"] == 2
    assert (rounds[2] / "history.png").read_bytes().startswith(b"\x89PNG")
    # a round begins where the one before ended
    before = json.loads((rounds[2] / "before.json").read_text())["by_domain"]
    assert before["legal"]["answer_accuracy"] == history[2].accuracy["legal"]


def _rows(folder, split):
    from datasets import load_from_disk

    return list(load_from_disk(folder)[split])


def test_all_weights_and_a_raw_file_of_feedback(tmp_path, data, model, monkeypatch, capsys):
    feedback = tmp_path / "feedback.jsonl"
    rows = list(generate_word_problems(60, seed=77, domain="finance"))
    feedback.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    output = tmp_path / "out"
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], str(feedback), output, adapter="none")) == 0
    assert (output / "model.safetensors").is_file() and not (output / "adapter_config.json").exists()
    assert "finance" in load_history(output)[-1].accuracy
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], str(feedback), output, adapter="none")) == 0
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_a_model_that_forgot_too_much_is_not_pushed(tmp_path, data, model, monkeypatch, capsys):
    import hf_reason.runs.continual as continual

    real, pushed = continual.evaluate_model, []
    monkeypatch.setattr(CoTSFTTrainer, "push_to_hub", lambda self, **kwargs: pushed.append(self.args.output_dir))
    monkeypatch.setattr(continual, "_push", lambda args: pushed.append("again"))

    def before(*args, **kwargs):
        results = real(*args, **kwargs)
        results["by_domain"]["math"]["answer_accuracy"] = 0.5
        return results

    monkeypatch.setattr(continual, "evaluate_model", before)
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "out", push_to_hub=True)
    assert _run(monkeypatch, arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "not published" in error and "math 50.0% -> 0.0%" in error and not pushed
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert _run(monkeypatch, arguments) == 2 and not pushed  # called again, it says the same
    assert "not published" in capsys.readouterr().err
    assert _run(monkeypatch, [*arguments, "--max_drop", "60"]) == 0 and pushed == ["again"]
    other = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "other", push_to_hub=True)
    assert _run(monkeypatch, [*other, "--max_drop", "60"]) == 0
    assert pushed[1:] == [str(tmp_path / "other")]


def test_interrupted_round_goes_on_and_measures_before_once(tmp_path, data, model, monkeypatch, capsys):
    whole = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "whole", max_steps=4)
    assert _run(monkeypatch, whole) == 0
    step = CoTSFTTrainer.training_step

    def interrupt(self, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    stopped = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "stopped", max_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(CoTSFTTrainer, "training_step", interrupt)
        assert _run(patch, stopped) == 130
    made = (tmp_path / "stopped" / "before.json").stat().st_mtime_ns
    assert _run(monkeypatch, stopped) == 0
    assert "Going on from" in capsys.readouterr().out
    assert (tmp_path / "stopped" / "before.json").stat().st_mtime_ns == made
    assert _curve(tmp_path / "stopped") == pytest.approx(_curve(tmp_path / "whole"), abs=1e-6)


def test_two_processes_are_one_round(tmp_path, data, model, monkeypatch):
    one = _arguments(
        tmp_path, model, data["math"], data["finance"], tmp_path / "one", per_device_train_batch_size=8, seed=3
    )
    assert _run(monkeypatch, one) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", RECIPE]
    two = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "two", seed=3, expected_world_size=2)
    done = subprocess.run([*launcher, *two], capture_output=True, text=True, env=dict(os.environ), timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert _curve(tmp_path / "two") == pytest.approx(_curve(tmp_path / "one"), abs=1e-4)
    assert load_history(tmp_path / "two")[-1].accuracy == load_history(tmp_path / "one")[-1].accuracy


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--old_domains", "medical"], "no record of the domain 'medical'"),
        (["--dataset", "nothing/here/x"], "nothing/here/x"),
        (["--replay_share", "1.5"], "replay_share"),
        (["--adapter", "continue"], "holds no adapter"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
        (["--max_drop", "-1"], "max_drop"),
    ],
)
def test_errors_are_one_line_with_the_mend(tmp_path, data, model, monkeypatch, capsys, extra, message):
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "out", *extra)
    assert _run(monkeypatch, arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and message in error.strip().splitlines()[-1]


def test_nothing_new_and_an_adapter_of_another_base(tmp_path, data, model, monkeypatch, capsys):
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["math"], tmp_path / "same")) == 2
    assert "nothing new to learn" in capsys.readouterr().err
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "one")) == 0
    fingerprint = tmp_path / "one" / "base_model.json"
    values = json.loads(fingerprint.read_text())
    fingerprint.write_text(json.dumps({**values, "hash": "0" * 32}))
    two = _arguments(tmp_path, tmp_path / "one", data["math"], data["legal"], tmp_path / "two")
    assert _run(monkeypatch, two) == 2
    assert "belongs to another base model" in capsys.readouterr().err
