"""GPTQ checkpoints of auto-gptq's documented layout: read from files alone, and by the commands with gptqmodel."""

import json
from importlib.util import find_spec

import pytest
import torch
from gptq_checkpoint import old_checkpoint
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_step_reasoner
from transformers import AutoModelForCausalLM

from hf_reason.compression import QuantizationError
from hf_reason.compression.gptq_files import load_dequantized
from hf_reason.models.quantized_loading import load_causal_lm, quantization_settings

IDS = torch.tensor([[5, 6, 7, 8, 9]])
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
CASES = [
    {},
    {"bits": 3, "sym": False},
    {"bits": 2, "desc_act": True, "file": "quantize_config.json"},
    {"bits": 8, "group_size": -1, "weights": "gptq_model-8bit.safetensors", "file": "quantize_config.json"},
    {"bits": 4, "desc_act": True, "sym": False},
]


@pytest.mark.parametrize("options", CASES)
def test_dense_model_has_the_weights_of_the_files(tokenizer, tmp_path, options):
    expected = old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer, **options)
    found = load_dequantized(tmp_path / "old", torch.float32)
    assert not hasattr(found.config, "quantization_config") and not found.training
    torch.testing.assert_close(found(IDS).logits, expected(IDS).logits)
    assert load_dequantized(tmp_path / "old").dtype == torch.bfloat16


def test_weights_of_gpt2_lie_the_other_way_round(tokenizer, tmp_path):
    expected = old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "gpt2"), tokenizer)
    torch.testing.assert_close(load_dequantized(tmp_path / "old", torch.float32)(IDS).logits, expected(IDS).logits)


def test_dense_model_saves_as_an_ordinary_one(tokenizer, tmp_path):
    model = tiny_step_reasoner(tokenizer, **SIZES)
    expected = old_checkpoint(tmp_path / "old", model, tokenizer, bits=3)
    load_dequantized(tmp_path / "old", torch.float32).save_pretrained(tmp_path / "dense")
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "dense").eval()
    torch.testing.assert_close(found(IDS).logits, expected(IDS).logits)


@pytest.mark.slow
@pytest.mark.parametrize("options", CASES)
def test_commands_load_what_auto_gptq_wrote(tokenizer, tmp_path, options, capfd):
    if find_spec("gptqmodel") is None:  # an import here would print the banner
        pytest.skip("needs the extra gptq")
    expected = old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer, **options)
    found = load_causal_lm(tmp_path / "old", dtype=torch.float32).eval()
    assert found.is_quantized
    torch.testing.assert_close(found(IDS).logits, expected(IDS).logits, rtol=1e-3, atol=1e-3)
    printed = "".join(capfd.readouterr())
    assert "GPT" not in printed and "INFO" not in printed and "act_group_aware" not in printed


def test_settings_are_found(tokenizer, tmp_path):
    old_checkpoint(tmp_path / "old", tiny_step_reasoner(tokenizer, **SIZES), tokenizer, file="quantize_config.json")
    found = quantization_settings(tmp_path / "old")
    # the three stacks of a StepReasoner have no pattern that optimum knows
    assert found["quant_method"] == "gptq" and found["block_name_to_quantize"] == "model"
    tiny_model(tokenizer, "qwen2").save_pretrained(tmp_path / "plain")
    assert quantization_settings(tmp_path / "plain") is None
    assert quantization_settings(tmp_path / "nothing") is None


def test_what_is_refused(tokenizer, tmp_path):
    plain = tiny_model(tokenizer, "qwen2")
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(QuantizationError, match="is no GPTQ checkpoint"):
        load_dequantized(tmp_path / "plain")
    old_checkpoint(tmp_path / "old", tiny_model(tokenizer, "qwen2", **SIZES), tokenizer)
    config = json.loads((tmp_path / "old/config.json").read_text())
    for change, message in (
        ({"checkpoint_format": "marlin"}, "4 bits in the layout 'marlin'; those that are read have 2, 3, 4, 8 bits"),
        ({"bits": 5}, "5 bits in the layout 'gptq'"),
        ({"dynamic": {"-:head": {}}}, "with bits that differ"),
    ):
        changed = {**config, "quantization_config": {**config["quantization_config"], **change}}
        (tmp_path / "old/config.json").write_text(json.dumps(changed))
        with pytest.raises(QuantizationError, match=message):
            load_dequantized(tmp_path / "old")
    (tmp_path / "old/config.json").write_text(json.dumps(config))
    tensors = load_file(tmp_path / "old/model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.scales"]
    save_file(tensors, tmp_path / "old/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QuantizationError, match="up_proj has a qweight, but no scales: the file is not whole"):
        load_dequantized(tmp_path / "old")


@pytest.mark.slow
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group_size", [-1, 16, 32, 64, 128])
@pytest.mark.parametrize("sym, desc_act", [(True, False), (False, True)])
@pytest.mark.parametrize("width", [128, 144])
def test_every_group_size_works_in_bfloat16(tokenizer, tmp_path, bits, group_size, sym, desc_act, width):
    """Which kernel multiplies depends on the type, and not every kernel has every size that gptqmodel lists for it."""
    pytest.importorskip("gptqmodel")
    sizes = {"hidden_size": width, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = tiny_model(tokenizer, "qwen2", num_hidden_layers=1, **sizes)
    options = {"bits": bits, "group_size": group_size, "sym": sym, "desc_act": desc_act}
    if bits == 3 and width % 32:
        pytest.skip("3 bits need inputs that fill whole words")
    expected = old_checkpoint(tmp_path / "old", model, tokenizer, **options)(IDS).logits
    found = load_causal_lm(tmp_path / "old", dtype=torch.bfloat16).eval()(IDS).logits
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()
