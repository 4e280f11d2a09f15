"""The model of a round: adapters that are merged with the logits that they had, trained on, or refused."""

import peft
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import save_model, tiny_qwen2
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from hf_reason.cli.arguments import ContinualArguments
from hf_reason.cli.inputs.round_model import load_round_model
from hf_reason.models.adapter_files import save_adapter_files
from hf_reason.models.base_weights import base_fingerprint
from hf_reason.models.peft_adapters import known_base, write_base
from hf_reason.trainers import CoTSFTConfig


def _logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(20, 40).unsqueeze(0)).logits


def _adapter(tmp_path, tokenizer, config):
    """An adapter that moves its base's logits, saved on a base with tied embeddings; its model."""
    base = save_model(tmp_path / "base", tiny_qwen2(tokenizer, tie_word_embeddings=True), tokenizer)
    plain = AutoModelForCausalLM.from_pretrained(base)
    fingerprint = base_fingerprint(plain)
    model = get_peft_model(plain, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    save_model(tmp_path / "adapter", model, tokenizer)
    write_base(tmp_path / "adapter", fingerprint)
    return model


def _load(tmp_path, kind, output="out"):
    args = CoTSFTConfig(str(tmp_path / output), report_to="none", use_cpu=True, bf16=False)
    model_args = ModelConfig(str(tmp_path / "adapter"), dtype="float32")
    return load_round_model(ContinualArguments(["old"], adapter=kind), model_args, args, ())[0]


@pytest.mark.parametrize("kind", ["fresh", "none"])
def test_a_lora_on_tied_embeddings_is_merged_right(kind, tmp_path, tokenizer):
    lora = LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], task_type="CAUSAL_LM")
    expected = _logits(_adapter(tmp_path, tokenizer, lora))
    (tmp_path / "out").mkdir()
    assert torch.allclose(_logits(_load(tmp_path, kind)), expected, atol=1e-4)
    if kind == "fresh":  # what the new LoRA's base is, also for a run that resumes
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "base")
        assert torch.allclose(_logits(saved), expected, atol=1e-4)
        assert torch.equal(_logits(_load(tmp_path, kind)), _logits(saved))


@pytest.mark.parametrize("method", [peft.PromptTuningConfig, peft.PromptEncoderConfig])
def test_virtual_tokens_are_trained_on_and_not_merged(method, tmp_path, tokenizer):
    model = _adapter(tmp_path, tokenizer, method(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(ValueError, match="adds virtual tokens and cannot be merged"):
        _load(tmp_path, "fresh")
    if method is peft.PromptEncoderConfig:
        with pytest.raises(ValueError, match=r"without the encoder that makes them \(trained_weights.safetensors\)"):
            _load(tmp_path, "continue")
        save_adapter_files(tmp_path / "adapter", model, None)
    loaded = _load(tmp_path, "continue")
    assert torch.equal(_logits(loaded), _logits(model))
    assert [name for name, value in loaded.named_parameters() if value.requires_grad]


def test_an_adapter_that_split_its_base_is_trained_on_for_that_base(tmp_path, tokenizer):
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM")
    model = _adapter(tmp_path, tokenizer, config)
    loaded = _load(tmp_path, "continue")
    assert torch.allclose(_logits(loaded), _logits(model), atol=1e-5)
    assert known_base(loaded) == base_fingerprint(AutoModelForCausalLM.from_pretrained(tmp_path / "base"))
