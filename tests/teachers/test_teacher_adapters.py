"""A teacher that was saved as an adapter: merged into the base that it was trained on, or refused."""

import peft
import pytest
import torch
from peft import get_peft_model
from tiny import save_model, tiny_qwen2
from transformers import AutoModelForCausalLM

from hf_reason.models.adapter_files import save_adapter_files
from hf_reason.models.base_weights import base_fingerprint
from hf_reason.teachers.errors import TeacherError
from hf_reason.teachers.loading import load_teacher_model


def _adapter(tmp_path, tokenizer, config):
    base = AutoModelForCausalLM.from_pretrained(save_model(tmp_path / "base", tiny_qwen2(tokenizer), tokenizer))
    fingerprint = base_fingerprint(base)
    model = get_peft_model(base, config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path / "adapter")
    save_adapter_files(tmp_path / "adapter", model, fingerprint)
    return model.eval()


def test_a_dora_teaches_with_all_of_its_weights(tmp_path, tokenizer):
    lora = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    model = _adapter(tmp_path, tokenizer, peft.LoraConfig(**lora, use_dora=True))
    ids = torch.arange(20, 40).unsqueeze(0)
    teacher = load_teacher_model(str(tmp_path / "adapter"))
    assert not hasattr(teacher, "peft_config")
    assert torch.allclose(teacher(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5)
    tiny_qwen2(tokenizer, seed=1).save_pretrained(tmp_path / "base")
    with pytest.raises(TeacherError, match="belongs to another base model"):
        load_teacher_model(str(tmp_path / "adapter"))


def test_virtual_tokens_do_not_teach(tmp_path, tokenizer):
    _adapter(tmp_path, tokenizer, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(TeacherError, match="PROMPT_TUNING adds virtual tokens"):
        load_teacher_model(str(tmp_path / "adapter"))
