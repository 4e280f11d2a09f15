"""bitsandbytes: saved, loaded by plain transformers, smaller, and what is refused."""

import pytest
import torch
from tiny import save_model, tiny_model, tiny_step_reasoner
from transformers import AutoModelForCausalLM

from hf_reason.cli.quantize import QuantizeArguments
from hf_reason.compression import QuantizationError, quantize_bnb
from hf_reason.compression.bnb import check_runs_here
from hf_reason.compression.measure_model import disk_bytes

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.parametrize("method", ["nf4", "int8"])
@pytest.mark.parametrize("kind", ["qwen2", "step_reasoner"])
def test_round_trip(tokenizer, tmp_path, method, kind):
    made = tiny_step_reasoner(tokenizer, **SIZES) if kind == "step_reasoner" else tiny_model(tokenizer, kind, **SIZES)
    whole = save_model(tmp_path / "whole", made, tokenizer)
    found = quantize_bnb(whole, method)
    found.save_pretrained(tmp_path / "small")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(loaded(ids).logits, found.eval()(ids).logits)
    before = made.eval()(ids).logits
    assert 0 < (loaded(ids).logits - before).abs().max() < before.abs().max()
    assert not getattr(loaded.get_output_embeddings(), "quant_state", None), "the head stays whole"
    assert disk_bytes(tmp_path / "small") < disk_bytes(whole)


def test_what_is_refused(tokenizer, tmp_path, tiny_model):
    whole = save_model(tmp_path / "whole", tiny_model, tokenizer)
    with pytest.raises(QuantizationError, match="nf4, int8, got 'int4'"):
        quantize_bnb(whole, "int4")
    with pytest.raises(QuantizationError, match="skip=w_proj: there is no such module"):
        quantize_bnb(whole, skip=["w_proj"])
    quantize_bnb(whole, "int8").save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match="quantised"):
        quantize_bnb(tmp_path / "small")


def test_widths_that_do_not_run_on_this_cpu(tokenizer, tmp_path, tiny_model, monkeypatch):
    whole = save_model(tmp_path / "whole", tiny_model, tokenizer)
    found = quantize_bnb(whole, "nf4")
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: False)
    check_runs_here(found)
    monkeypatch.setattr("bitsandbytes.functional.has_avx512bf16", lambda: True)
    with pytest.raises(QuantizationError, match="14 modules have others, such as model.layers.0.self_attn.q_proj"):
        check_runs_here(found)


def test_options_of_gptq_alone(tmp_path):
    with pytest.raises(ValueError, match="--bits, --desc_act: only gptq has it; nf4 has"):
        QuantizeArguments(model_name_or_path="m", output_dir=str(tmp_path), method="nf4", bits=8, desc_act=True)


def test_modules_that_stay_whole(tokenizer, tmp_path, tiny_model):
    whole = save_model(tmp_path / "whole", tiny_model, tokenizer)
    found = quantize_bnb(whole, "nf4", skip=["o_proj"])
    assert type(found.model.layers[0].self_attn.o_proj) is torch.nn.Linear
    assert type(found.model.layers[0].self_attn.q_proj) is not torch.nn.Linear
