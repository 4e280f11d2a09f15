"""Special tokens: the pad that ends nothing, the stop tokens that are saved (pains 4, 5)."""

import pytest
import torch

from hf_reason.text import align_generation_config, end_token_id, ensure_pad_token, fit_embeddings


def test_pad_that_equals_the_eos_is_replaced(tokenizer):
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|fim_pad|>"]})
    ensure_pad_token(tokenizer)
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, end_token_id(tokenizer))


def test_pad_is_added_when_no_spare_token_is_left():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<eos>": 0, "a": 1})), eos_token="<eos>"
    )
    assert ensure_pad_token(bare)
    assert bare.pad_token_id == 2
    assert not ensure_pad_token(bare)


def test_a_tokenizer_without_any_end_is_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    with pytest.raises(ValueError, match="never learn|learn to stop"):
        end_token_id(PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}))))


def test_embeddings_grow_and_never_shrink(tiny_model, tokenizer):
    before = tiny_model.get_input_embeddings().weight.detach().clone()
    assert not fit_embeddings(tiny_model, tokenizer)
    tokenizer.add_tokens(["<新>"])
    assert fit_embeddings(tiny_model, tokenizer)
    after = tiny_model.get_input_embeddings().weight
    assert after.shape[0] == len(tokenizer)
    assert torch.equal(after[: len(before)], before)


def test_saved_model_stops_at_the_end_of_turn(tiny_model, tokenizer, tmp_path):
    """Pain 5: the stop tokens survive saving and reloading; an older one is kept behind."""
    from transformers import AutoModelForCausalLM

    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|turn|>")
    fit_embeddings(tiny_model, tokenizer)
    tiny_model.generation_config.eos_token_id = 7
    align_generation_config(tiny_model, tokenizer)
    tiny_model.save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert reloaded.generation_config.eos_token_id == [end_token_id(tokenizer), tokenizer.eos_token_id, 7]
    assert reloaded.generation_config.pad_token_id == tokenizer.pad_token_id
    # forced to prefer the end of turn, it stops there
    with torch.no_grad():
        reloaded.lm_head.weight.zero_()
    reloaded.lm_head.bias = torch.nn.Parameter(torch.zeros(len(tokenizer)))
    with torch.no_grad():
        reloaded.lm_head.bias[end_token_id(tokenizer)] = 10.0
    out = reloaded.generate(torch.tensor([[5, 6]]), max_new_tokens=8, do_sample=False)
    assert out[0].tolist() == [5, 6, end_token_id(tokenizer)]


def test_changing_the_template_changes_the_end_of_turn(tokenizer):
    """The id is cached; the cache must notice."""
    assert end_token_id(tokenizer) == tokenizer.eos_token_id
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|system|>")
    assert end_token_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|system|>")
