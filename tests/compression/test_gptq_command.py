"""`quantize` as a user runs it: recovery, resumed; a LoRA on top of what it made; and what it refuses."""

import sys

import pytest
import torch
from datasets import Dataset, DatasetDict
from gptq_checkpoint import old_checkpoint
from safetensors.torch import load_file
from tiny import interrupt_at, save_model, tiny_model
from transformers import AutoModelForCausalLM

from hf_reason.cli.main import main
from hf_reason.trainers import DistillKLTrainer

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture
def place(tmp_path, tokenizer, records, monkeypatch):
    save_model(tmp_path / "model", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer)
    parts = {"train": records[:44], "validation": records[44:52], "test": records[52:]}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quantize(place, capsys):
    def run(*arguments, model="model"):
        common = ("--model_name_or_path", model, "--dataset_name", "data", "--max_records", "2", "--use_cpu")
        code = main(["quantize", *common, "--max_completion_length", "6", "--output_dir", "small", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def distill(place, capsys):
    """A LoRA on top of a quantised model, taught by the whole one."""

    def run(student):
        options = ("--model_name_or_path", student, "--teacher_model_name_or_path", "model", "--use_peft", "true")
        lengths = (
            "--max_steps",
            "2",
            "--per_device_train_batch_size",
            "2",
            "--max_length",
            "256",
            "--use_cpu",
            "true",
        )
        places = ("--dataset_name", "data", "--output_dir", "lora", "--eval_strategy", "no", "--report_to", "none")
        code = main(["distill", *options, *places, *lengths, "--learning_rate", "0.01"])
        return code, *capsys.readouterr()

    return run


GPTQ = ("--calibration", "traces", "--calibration_records", "8", "--group_size", "32")


@pytest.mark.slow
def test_recovered_and_resumed(quantize, place, monkeypatch):
    pytest.importorskip("gptqmodel")
    options = (*GPTQ, "--bits", "3", "--recover_steps", "4", "--recover_learning_rate", "0.0001")
    with monkeypatch.context() as patch:
        interrupt_at(patch, DistillKLTrainer, 2)
        code, _, err = quantize(*options)
    assert code == 130 and "resumes from the stages" in err
    quantised = load_file(place / "small.partial/quantised/model.safetensors")
    code, out, err = quantize(*options)
    assert code == 0, err
    assert "before recovery" in out and "Measuring model" not in out
    found = load_file(place / "small/model.safetensors")
    assert found.keys() == quantised.keys()
    same = {name for name in found if torch.equal(found[name], quantised[name])}
    assert same >= {name for name in found if name.endswith((".qweight", ".qzeros", ".g_idx"))}
    assert not any(name.endswith(".scales") for name in same)
    assert AutoModelForCausalLM.from_pretrained(place / "small").is_quantized


@pytest.mark.slow
def test_a_lora_on_top_of_gptq(quantize, distill, place, tokenizer):
    pytest.importorskip("gptqmodel")
    code, _, err = quantize(*GPTQ)
    assert code == 0, err
    code, out, err = distill("small")
    assert code == 0, err
    assert "GPT-QModel" not in out
    assert (place / "lora/adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_lora_on_top_of_nf4(quantize, distill, place):
    code, _, err = quantize("--method", "nf4")
    assert code == 0, err
    code, _, err = distill("small")
    assert code == 0, err
    assert (place / "lora/adapter_model.safetensors").is_file()


def test_recovery_of_bitsandbytes_names_the_way_that_works(quantize):
    code, _, err = quantize("--method", "nf4", "--recover_steps", "5")
    assert code == 2 and err.count("\n") == 1
    assert "nf4 has none to train" in err
    assert "hf-reason distill --model_name_or_path small --teacher_model_name_or_path model --use_peft true" in err


@pytest.mark.parametrize("method", ["gptq", "nf4"])
def test_a_quantised_model_is_refused_at_once(quantize, place, tokenizer, method):
    old_checkpoint(place / "old", tiny_model(tokenizer, "qwen2"), tokenizer, file="quantize_config.json")
    code, _, err = quantize("--method", method, model="old")
    assert code == 2 and "old is quantised already (gptq): quantise the model that it was made of." in err
    assert not (place / "small.partial").exists()


def test_missing_extras_are_named(quantize, place, tokenizer, monkeypatch, capsys):
    for package in ("gptqmodel", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, package, None)
    code, _, err = quantize(*GPTQ)
    assert code == 2 and "GPTQ needs the extra gptq: pip install 'hf_reason[gptq]'" in err
    code, _, err = quantize("--method", "int8")
    assert code == 2 and "int8 needs the extra bnb: pip install 'hf_reason[bnb]'" in err
    old_checkpoint(place / "old", tiny_model(tokenizer, "qwen2"), tokenizer)
    code = main(["ask", "--model_name_or_path", "old", "--use_cpu", "--question", "1 + 1?"])
    err = capsys.readouterr().err
    # without the extra optimum is missing, too
    assert code == 2 and "old is quantised (gptq), and gptqmodel" in err and "pip install 'hf_reason[gptq]'" in err


def test_too_few_calibration_chains(quantize, monkeypatch):
    from hf_reason.cli import quantize as command

    monkeypatch.setattr(command, "_check_extra", lambda method: None)  # its import takes half a minute
    code, _, err = quantize("--calibration", "traces", "--calibration_records", "900")
    assert code == 2 and "needs 900" in err
