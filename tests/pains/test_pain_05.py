"""Pain 5, modelscope/ms-swift#3113: a model is saved that stops at another token than the one it learnt."""

from plain_trl import messages, sft_trainer, template
from tiny import tiny_trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reason.text import end_token_id
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


def _base(tokenizer):
    """As Qwen2.5's base models: the EOS is `<|end|>`, the template ends turns with `<|im_end|>`."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template("qwen2_5")
    return tokenizer


def test_plain_trl_keeps_the_stop_token_of_the_base(tmp_path, tiny_model, tokenizer, records):
    _base(tokenizer)
    tiny_model.resize_token_embeddings(len(tokenizer))
    trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [{"messages": messages(records[0])}])
    trainer.save_model(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config.eos_token_id
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in (saved if isinstance(saved, list) else [saved])


def test_the_end_of_the_turn_is_a_stop_token_after_reloading(tmp_path, tiny_model, tokenizer, records):
    _base(tokenizer)
    trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records[:4])
    trainer.save_model(tmp_path / "saved")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").generation_config
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved.eos_token_id[0] == end_token_id(reloaded) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id in saved.eos_token_id and saved.pad_token_id not in saved.eos_token_id
