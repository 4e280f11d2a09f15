"""`prune` and `quantize` as a user runs them: resumed, passed, refused, and one line for what cannot be."""

import json

import pytest
import torch
from tiny import save_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason.cli.main import main
from hf_reason.compression import pruned_fraction


@pytest.fixture
def place(tmp_path, tokenizer, tiny_model, dataset, monkeypatch):
    save_model(tmp_path / "model", tiny_model, tokenizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def command(place, dataset, capsys):
    def run(name, *arguments, model="model"):
        common = ("--model_name_or_path", model, "--dataset_name", dataset, "--max_records", "2", "--use_cpu")
        code = main([name, *common, "--max_completion_length", "6", "--output_dir", "small", *arguments])
        return code, *capsys.readouterr()

    return run


def test_pruned_compared_and_documented(command, place):
    code, out, err = command("prune", "--ratio", "0.25")
    assert code == 0, err
    assert "weights on disk" in out and "The compressed model passes the gate." in out
    assert pruned_fraction(AutoModelForCausalLM.from_pretrained(place / "small")) == 0.25
    report = json.loads((place / "small/compression.json").read_text())
    assert report["settings"]["ratio"] == 0.25 and report["passed"] and report["after"]["disk_bytes"]
    card = (place / "small/README.md").read_text()
    assert "## Compression\n" in card and "McNemar" in card and str(place) not in card + json.dumps(report)
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("small")) == ["small"]
    code, out, _ = command("prune", "--ratio", "0.25")
    assert code == 0 and "finished: nothing to do" in out


def test_zeros_stay_through_recovery(command, place):
    code, out, err = command("prune", "--ratio", "0.3", "--recover_steps", "4", "--recover_learning_rate", "0.0001")
    assert code == 0, err
    before = AutoModelForCausalLM.from_pretrained(place / "model")
    after = AutoModelForCausalLM.from_pretrained(place / "small")
    assert pruned_fraction(after) == pytest.approx(0.3, abs=2e-3)
    name = "model.layers.0.self_attn.q_proj.weight"
    kept = after.get_parameter(name) != 0
    assert not torch.equal(after.get_parameter(name)[kept], before.get_parameter(name)[kept])
    assert "before recovery" in out


def test_killed_between_the_stages_it_resumes(command, place, monkeypatch):
    from hf_reason.cli.compressing import Compression

    with monkeypatch.context() as patch:
        patch.setattr(Compression, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, _, err = command("prune")
    assert code == 130 and "resumes from the stages in small.partial" in err
    code, out, _ = command("prune")
    assert code == 0 and "Measuring model" not in out and "weights are zero" not in out
    code, _, err = command("prune", "--output_dir", "other")
    assert code == 0, err


def test_other_settings_do_not_mix(command, place, monkeypatch):
    from hf_reason.cli.compressing import Compression

    with monkeypatch.context() as patch:
        patch.setattr(Compression, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        command("prune")
    code, _, err = command("prune", "--ratio", "0.4")
    assert code == 2 and "small.partial was begun with --ratio 0.2, not 0.4" in err


def test_a_refused_model_is_kept_apart(command, place, monkeypatch):
    from hf_reason.compression import gate

    monkeypatch.setattr(gate, "mcnemar", lambda *_: 0.01)
    compare = gate.compare

    def worse(before, after, **limits):
        before.result.answer_accuracy = 1.0
        return compare(before, after, **limits)

    monkeypatch.setattr(gate, "compare", worse)
    code, out, err = command("prune")
    assert code == 3 and "Error: The compressed model is refused: answer accuracy fell from 100.0% to" in err
    assert not (place / "small").exists() and (place / "small-refused/model.safetensors").is_file()
    assert "The gate refuses the compressed model" in (place / "small-refused/README.md").read_text()
    code, _, err = command("prune")
    assert code == 2 and "small-refused holds what this command made before" in err


def test_smaller_shapes(command, place, tokenizer):
    save_model(place / "wide", tiny_qwen2(tokenizer, num_attention_heads=4, num_key_value_heads=2), tokenizer)
    options = ("--num_key_value_heads", "1", "--calibration", "traces", "--calibration_records", "4")
    code, out, err = command("prune", *options, model="wide")
    assert code == 0, err
    assert "Calibration on 4 texts (traces; of 44)" in out
    assert AutoModelForCausalLM.from_pretrained(place / "small").config.num_key_value_heads == 1


def test_an_adapter_is_merged(command, place, tiny_model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    adapted = get_peft_model(tiny_model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = "model"
    adapted.save_pretrained(place / "adapter")
    for file in (place / "model").glob("*token*"):
        (place / "adapter" / file.name).write_bytes(file.read_bytes())
    code, _, err = command("prune", "--ratio", "0.2", "--modules", "feed_forward", model="adapter")
    assert code == 0, err
    after = AutoModelForCausalLM.from_pretrained(place / "small").get_parameter(
        "model.layers.0.self_attn.q_proj.weight"
    )
    merged = adapted.merge_and_unload().get_parameter("model.layers.0.self_attn.q_proj.weight")
    torch.testing.assert_close(after, merged)


def test_nf4(command, place, tokenizer):
    save_model(place / "wide", tiny_qwen2(tokenizer, hidden_size=64, intermediate_size=128), tokenizer)
    code, out, err = command("quantize", "--method", "nf4", model="wide")
    assert code == 0, err
    assert AutoModelForCausalLM.from_pretrained(place / "small").is_quantized
    text = "".join(path.read_text() for path in (place / "small").glob("*.json"))
    assert str(place) not in text


def test_errors_are_one_line_with_the_fix(command, place, tokenizer):
    (place / "full").mkdir()
    (place / "full/notes.txt").write_text("mine")
    for arguments, message in (
        (("prune", "--ratio", "2"), "ratio is a fraction between 0 and 1, got 2.0"),
        (("prune", "--ratio", "0.5", "--pattern", "2:4"), "exclude each other"),
        (
            ("prune", "--num_key_value_heads", "1", "--calibration", "traces", "--calibration_records", "900"),
            "needs 900",
        ),
        (("prune", "--output_dir", "full"), "full has files of something else"),
        (("prune", "--output_dir", "model"), "is the folder of the model"),
        (("quantize", "--method", "int8", "--skip_modules", "w_proj"), "there is no such module"),
        (("quantize", "--bits", "5"), "5"),
    ):
        code, _, err = command(*arguments)
        assert code == 2 and message in err and "Traceback" not in err, err


@pytest.fixture
def questions(place):
    """Raw files of questions and answers without chains; the first of the test file is a training problem too."""
    rows = [{"question": f"小明有{n}个苹果,又买来{n}个。现在有多少个?", "answer": str(2 * n)} for n in range(2, 14)]
    for name, chosen in (("train.jsonl", rows[:9]), ("test.jsonl", rows[8:])):
        (place / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen))
    return ("--dataset_name", "train.jsonl")


def test_questions_and_answers_are_enough(command, questions, place):
    code, _, err = command("prune", *questions)
    assert code == 2 and "train.jsonl has questions and answers without chains" in err and "--eval_dataset_name" in err
    code, out, err = command("prune", *questions, "--eval_dataset_name", "test.jsonl", "--max_records", "4")
    assert code == 0, err
    assert "Note: 1 problems of both" in err and "Measuring model on 4 records" in out
    code, _, err = command(
        "prune", *questions, "--eval_dataset_name", "train.jsonl", "--max_records", "9", "--output_dir", "b"
    )
    assert code == 2 and "every problem of dataset_name is in eval_dataset_name too" in err


def test_the_model_recovers_on_its_own_chains(command, questions, place, monkeypatch):
    from hf_reason.compression import calibration

    def verified(model, tokenizer, records, *_):
        return [{"prompt": "问题", "text": "<think>\n步骤1: 2+2=4\n</think>\n\n4", "right": True} for _ in records]

    monkeypatch.setattr(calibration, "_answered", verified)
    options = ("--eval_dataset_name", "test.jsonl", "--recover_steps", "2", "--calibration_records", "8")
    code, out, err = command("prune", *questions, *options)
    assert code == 0, err
    assert "Calibration on 8 texts (self; of 8)" in out and "before recovery" in out
    assert pruned_fraction(AutoModelForCausalLM.from_pretrained(place / "small")) == pytest.approx(0.2, abs=1e-2)


def test_figures_and_chains_are_made_once_in_a_cache_dir(command, place):
    code, out, _ = command("prune", "--cache_dir", "cache")
    assert code == 0 and "Measuring model on" in out
    code, out, _ = command("prune", "--cache_dir", "cache", "--ratio", "0.4", "--output_dir", "other")
    assert code == 0 and "Measuring model on" not in out
    code, out, _ = command("prune", "--cache_dir", "cache", "--max_records", "1", "--output_dir", "third")
    assert code == 0 and "Measuring model on" in out  # other problems
    # the pruned model is the one that was measured as a result
    code, out, err = command("prune", "--cache_dir", "cache", "--output_dir", "again", model="small")
    assert code == 0 and "Measuring small on" not in out, err
