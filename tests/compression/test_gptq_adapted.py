"""GPTQ of models that are more than their weights: a LoAR, which stays apart, a LoRA, which is merged."""

import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny import save_model, tiny_model
from transformers import AutoModelForCausalLM

from hf_reason import LoARConfig, apply_loar
from hf_reason.cli.main import main

pytest.importorskip("gptqmodel")
pytestmark = pytest.mark.slow
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}


@pytest.fixture
def place(tmp_path, tokenizer, records, monkeypatch):
    parts = {"train": records[:44], "validation": records[44:52], "test": records[52:]}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(tokenizer):
    return tiny_model(tokenizer, "qwen2", **SIZES)


def quantize(name):
    options = ("--calibration", "traces", "--calibration_records", "8", "--group_size", "32", "--max_records", "2")
    where = ("--model_name_or_path", name, "--dataset_name", "data", "--output_dir", "small")
    return main(["quantize", *where, *options, "--max_completion_length", "6", "--use_cpu", "--max_drop", "100"])


def dense(folder):
    """The model of the saved integers, by plain tensors."""
    from hf_reason.compression import load_dequantized

    return load_dequantized(folder).float()


def test_a_loar_goes_with_the_quantised_model(place, model, tokenizer, capsys):
    from hf_reason.models import with_saved_loar

    save_model(place / "model", model, tokenizer)
    loar = apply_loar(model, LoARConfig(budget=0.5, anneal_ratio=0.0))
    for parameter in loar.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    loar.save_pretrained(place / "model")
    assert quantize("model") == 0, capsys.readouterr().err
    packed = with_saved_loar(AutoModelForCausalLM.from_pretrained("small", dtype=torch.float32), "small")
    plain = with_saved_loar(dense("small"), "small")
    ids = torch.tensor([tokenizer("小明有3个苹果,又买来4个。")["input_ids"]])
    with torch.no_grad():
        first, second = packed(input_ids=ids).logits.float(), plain(input_ids=ids).logits
    torch.testing.assert_close(first, second, rtol=0, atol=0.02 * float(second.abs().max()))
    written = [found.generate(ids, max_new_tokens=8, do_sample=False)[0].tolist() for found in (packed, plain)]
    assert written[0] == written[1]


def test_a_lora_is_merged_before_it_is_quantised(place, model, tokenizer, capsys):
    from peft import LoraConfig, get_peft_model

    save_model(place / "model", model, tokenizer)
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = "model"
    adapted.save_pretrained(place / "adapter")
    tokenizer.save_pretrained(place / "adapter")
    assert quantize("adapter") == 0, capsys.readouterr().err
    merged, found = adapted.merge_and_unload(), dense("small")
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        weight, stored = merged.get_parameter(name), found.get_parameter(name)
        steps = (weight.amax(1) - weight.amin(1)).mean() / 15
        assert (weight - stored).abs().mean() < steps, "as near as 16 levels are"
