"""`hf-reason continual`: three rounds, the guard, resume, two processes, adapters, and its errors."""

import json
from pathlib import Path

import pytest
import tiny
from datasets import Dataset, DatasetDict

from hf_reason.cli import round as continual_round
from hf_reason.cli import round_modes
from hf_reason.cli.continual import CLASSES
from hf_reason.cli.main import main
from hf_reason.cli.parsing.parser import parse
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.evaluation.forgetting import load_history
from hf_reason.trainers import CoTSFTTrainer

SETTINGS = {
    "max_steps": 2,
    "save_steps": 1,
    "max_test_records": 2,
    "eval_max_completion_length": 4,
    "lora_dropout": 0.0,
    "lora_target_modules": ["q_proj", "v_proj"],
    "train_sampling_strategy": "sequential",
}


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
    model = tiny.tiny_qwen2(_session_tokenizer)
    return tiny.save_model(tmp_path_factory.mktemp("finished"), model, _session_tokenizer)


def _arguments(tmp_path, model, old, new, output, *extra, **settings) -> list[str]:
    settings = {**SETTINGS, "model_name_or_path": str(model), "old_dataset": old, "dataset_name": new, **settings}
    return tiny.recipe_arguments(tmp_path, output, *extra, **settings)


def _run(monkeypatch, arguments) -> int:
    """The command in this process; its exit code."""
    return main(["continual", *arguments])


@pytest.fixture
def cache_home(tmp_path, monkeypatch) -> Path:
    """Where raw data is prepared."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf_home"))
    return tmp_path / "hf_home" / "hf_reason"


def test_three_rounds_keep_one_history(tmp_path, data, model, monkeypatch, capsys):
    """A fresh LoRA, one more on the merged model, then the same one trained on; the history follows."""
    both = [data["math"], data["finance"], data["math"]]  # what is there twice counts once
    rounds = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["finance"], rounds[0])) == 0
    out = capsys.readouterr().out
    assert "25 training records: new 20 (finance 20), replayed 5 (math 5)" in out
    assert "backward transfer" in out
    two = _arguments(tmp_path, rounds[0], both, data["legal"], rounds[1], replay_ratio=0.5)
    assert _run(monkeypatch, two) == 0
    assert "replayed 20 (finance 10, math 10)" in capsys.readouterr().out
    assert "| replay_ratio | 0.5 |" in (rounds[1] / "README.md").read_text()
    assert (rounds[1] / "base" / "model.safetensors").is_file()
    adapter = json.loads((rounds[1] / "adapter_config.json").read_text())
    assert adapter["base_model_name_or_path"] == str(rounds[1] / "base")
    more = _save(tmp_path / "more", "legal", 26, 99)
    three = _arguments(tmp_path, rounds[1], both, more, rounds[2], adapter="continue")
    assert _run(monkeypatch, three) == 0
    history = load_history(rounds[2])
    assert [entry.name for entry in history] == [Path(model).name, "one", "two", "three"]
    assert [entry.learned for entry in history] == [("math",), ("finance",), ("legal",), ()]
    assert set(history[2].accuracy) == {"math", "finance", "legal"} and history[2].records["legal"] == 2
    assert (rounds[2] / "history.png").read_bytes().startswith(b"\x89PNG")
    # a round begins where the one before ended
    before = json.loads((rounds[2] / "before.json").read_text())["by_domain"]
    assert before["legal"]["answer_accuracy"] == history[2].accuracy["legal"]
    # an adapter that is moved together with its merged base still finds it
    moved = rounds[1].rename(tmp_path / "moved")
    four = _arguments(tmp_path, moved, both, more, tmp_path / "four", adapter="continue")
    assert _run(monkeypatch, four) == 0
    assert json.loads((tmp_path / "four" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        moved / "base"
    )


def test_all_weights_and_a_raw_file_of_feedback(tmp_path, data, model, monkeypatch, capsys, cache_home):
    feedback = tmp_path / "feedback.jsonl"
    rows = list(generate_word_problems(60, seed=77, domain="finance"))
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    feedback.write_text("\n".join([*lines, "{broken"]) + "\n", encoding="utf-8")
    output = tmp_path / "out"
    arguments = _arguments(tmp_path, model, data["math"], str(feedback), output, adapter="none")
    assert _run(monkeypatch, arguments) == 2
    assert "feedback.jsonl" in capsys.readouterr().err
    arguments += ["--skip_broken", "true"]
    assert _run(monkeypatch, arguments) == 0
    assert (output / "model.safetensors").is_file() and not (output / "adapter_config.json").exists()
    assert "finance" in load_history(output)[-1].accuracy
    assert "61 records" in capsys.readouterr().out
    assert _run(monkeypatch, arguments) == 0
    assert "is finished: nothing to do" in capsys.readouterr().out


def test_a_few_lines_of_feedback_on_an_old_domain(tmp_path, data, model, monkeypatch, capsys, cache_home):
    """Too few for a test split of their own: the old one watches over them. Before and after are sampled alike."""
    real, asked = continual_round.evaluate_model, []
    monkeypatch.setattr(continual_round, "evaluate_model", lambda *a, **k: asked.append(k) or real(*a, **k))
    feedback = tmp_path / "feedback.jsonl"
    rows = [row for row in generate_word_problems(12, seed=6) if len(row["steps"]) > 2][:4]
    feedback.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:2] + rows), encoding="utf-8"
    )
    output = tmp_path / "out"
    arguments = _arguments(tmp_path, model, data["math"], str(feedback), output, num_samples=2, eval_temperature=0.7)
    assert _run(monkeypatch, arguments) == 0
    said = capsys.readouterr()
    assert "6 records, 4 kept; dropped: exact_duplicate 2" in said.out
    assert "math has 4 new training records, too few to count as learned (min_learned_records=10)" in said.err
    assert "without a test of their own" in said.err
    assert load_history(output)[-1].records == {"math": 2}
    assert len(list(cache_home.glob("feedback-*/report.json"))) == 1  # not in the output folder, which may be pushed
    after = json.loads((output / "evaluation" / "evaluation.json").read_text())
    assert asked[0]["num_samples"] == after["num_samples"] == 2 and asked[0]["temperature"] == 0.7


def test_the_guard_compares_both_modes_of_a_hybrid_model(tmp_path, data, model, monkeypatch, capsys):
    """The model answers without thinking before the round and not after it; the mode that is trained loses nothing."""
    real, asked = round_modes.evaluate_model, []

    def answering(*args, **options):
        results = real(*args, **options)
        asked.append(options["thinking"])
        for group in (results, *results.by_domain.values()):
            group["answer_accuracy"] = 0.8 if len(asked) == 1 else 0.1
        return results

    monkeypatch.setattr(round_modes, "evaluate_model", answering)
    output = tmp_path / "out"
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], output, max_drop=5)
    assert _run(monkeypatch, arguments) == 3
    said = capsys.readouterr()
    assert "math without thinking 80.0% -> 10.0%" in said.err and asked == [False, False]
    assert "the other mode" in said.out
    assert load_history(output)[-1].other_mode == {"math": 0.1, "finance": 0.1}
    assert json.loads((output / "evaluation_other_mode" / "evaluation.json").read_text())["answer_accuracy"] == 0.1
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], output, max_drop=80)
    assert _run(monkeypatch, arguments) == 0  # allowed now, without training or measuring again
    assert len(asked) == 2


def test_a_model_that_cannot_answer_in_the_other_mode_is_not_measured_in_it_again(
    tmp_path, data, model, monkeypatch, capsys
):
    real, asked = round_modes.evaluate_model, []
    monkeypatch.setattr(round_modes, "evaluate_model", lambda *a, **k: asked.append(len(a[2])) or real(*a, **k))
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "out", max_test_records=None)
    monkeypatch.setattr(round_modes, "PROBE_RECORDS", 2)
    assert _run(monkeypatch, arguments) == 0
    assert asked == [2] and "answers none of 2 test records without thinking" in capsys.readouterr().err
    assert load_history(tmp_path / "out")[-1].other_mode == {}


@pytest.mark.parametrize("name", ["demo", "demo_lora"])
def test_demo_configs_have_only_arguments_that_exist(name):
    config = tiny.RECIPES / "configs" / "continual" / f"{name}.yaml"
    round_args, *_ = parse("continual", CLASSES, ["--config", str(config), "--use_cpu", "true"])
    assert round_args.old_dataset == ["outputs/demo/data"] and round_args.old_domains == ["math"]


def test_a_model_that_forgot_too_much_is_not_pushed(tmp_path, data, model, monkeypatch, capsys):
    real, pushed = continual_round.evaluate_model, []
    monkeypatch.setattr(CoTSFTTrainer, "push_to_hub", lambda self, **kwargs: pushed.append(self.args.output_dir))
    monkeypatch.setattr(continual_round, "push_folder", lambda args: pushed.append("again"))

    def before(*args, **kwargs):
        results = real(*args, **kwargs)
        results["by_domain"]["math"]["answer_accuracy"] = 0.5
        return results

    monkeypatch.setattr(continual_round, "evaluate_model", before)
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "out", push_to_hub=True)
    assert _run(monkeypatch, arguments) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "not published" in error and "math 50.0% -> 0.0%, 50.0 points" in error and not pushed
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert _run(monkeypatch, arguments) == 3 and not pushed  # called again, it says the same
    assert "not published" in capsys.readouterr().err
    assert _run(monkeypatch, [*arguments, "--max_drop", "60"]) == 0 and pushed == ["again"]
    capsys.readouterr()
    other = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "other", push_to_hub=True)
    assert _run(monkeypatch, [*other, "--max_drop", "60"]) == 0
    assert pushed[1:] == [str(tmp_path / "other")]
    assert f"belongs to the base {model}, a folder of this machine" in capsys.readouterr().err


def test_interrupted_round_resumes_and_measures_before_once(tmp_path, data, model, monkeypatch, capsys):
    whole = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "whole", max_steps=4)
    assert _run(monkeypatch, whole) == 0
    stopped = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "stopped", max_steps=4)
    with monkeypatch.context() as patch:
        tiny.interrupt_at(patch, CoTSFTTrainer, step=2)
        assert _run(patch, stopped) == 130
    made = (tmp_path / "stopped" / "before.json").stat().st_mtime_ns
    assert _run(monkeypatch, stopped) == 0
    assert "Resuming from" in capsys.readouterr().out
    assert (tmp_path / "stopped" / "before.json").stat().st_mtime_ns == made
    assert tiny.logged_curve(tmp_path / "stopped") == pytest.approx(tiny.logged_curve(tmp_path / "whole"), abs=1e-6)


@pytest.mark.slow
def test_two_processes_are_one_round(tmp_path, data, model, monkeypatch):
    one = _arguments(
        tmp_path, model, data["math"], data["finance"], tmp_path / "one", per_device_train_batch_size=8, seed=3
    )
    assert _run(monkeypatch, one) == 0
    two = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "two", seed=3, expected_world_size=2)
    done = tiny.run_recipe("continual.py", *two, launcher=tiny.ON_TWO_PROCESSES)
    assert done.returncode == 0, done.stderr[-3000:]
    assert tiny.logged_curve(tmp_path / "two") == pytest.approx(tiny.logged_curve(tmp_path / "one"), abs=1e-4)
    assert load_history(tmp_path / "two")[-1].accuracy == load_history(tmp_path / "one")[-1].accuracy


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--old_domains", "medical"], "no record of the domain 'medical'"),
        (["--dataset_name", "nothing/here/x"], "nothing/here/x"),
        (["--replay_ratio", "1.5"], "replay_ratio"),
        (["--adapter", "continue"], "holds no adapter"),
        (["--model_name_or_path", "./nothing"], "./nothing"),
        (["--max_drop", "-1"], "max_drop"),
    ],
)
def test_errors_are_one_line_with_the_fix(tmp_path, data, model, monkeypatch, capsys, extra, message):
    arguments = _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "out", *extra)
    assert _run(monkeypatch, arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error and message in error.strip().splitlines()[-1]


def test_nothing_new_and_an_adapter_of_another_base(tmp_path, data, model, monkeypatch, capsys, _session_tokenizer):
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["math"], tmp_path / "same")) == 2
    assert "nothing new to learn" in capsys.readouterr().err
    assert _run(monkeypatch, _arguments(tmp_path, model, data["math"], data["finance"], tmp_path / "one")) == 0
    fingerprint = tmp_path / "one" / "base_model.json"
    values = json.loads(fingerprint.read_text())
    fingerprint.write_text(json.dumps({**values, "hash": "0" * 32}))
    two = _arguments(tmp_path, tmp_path / "one", data["math"], data["legal"], tmp_path / "two")
    assert _run(monkeypatch, two) == 2
    assert "belongs to another base model" in capsys.readouterr().err
    fingerprint.unlink()  # an adapter that another tool made: the shapes still tell
    wide = tmp_path / "wide"
    tiny.tiny_qwen2(_session_tokenizer, hidden_size=32).save_pretrained(wide)
    _base_is(tmp_path / "one", str(wide))
    assert _run(monkeypatch, two) == 2
    assert f"does not fit {wide}, which it names as its base" in capsys.readouterr().err
    _base_is(tmp_path / "one", str(tmp_path / "gone"))
    assert _run(monkeypatch, two) == 2
    assert f"belongs to the base {tmp_path / 'gone'}, which is not at hand" in capsys.readouterr().err
    _base_is(tmp_path / "one", model)
    assert _run(monkeypatch, [*two, "--load_in_4bit", "true"]) == 2
    assert "would be rounded again" in capsys.readouterr().err


def _base_is(adapter: Path, base: str) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base}))
