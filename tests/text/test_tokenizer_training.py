"""The tokenizer made from data: what it gives back, and that it reloads as it was."""

import pytest
from transformers import AutoTokenizer

from hf_reason.text import check_round_trip, encode, train_tokenizer


def test_every_text_comes_back(tokenizer):
    for text in ("步骤1:3+4=7个\n", "😀 naïve\t\u3000x", "<think>\n\n</think>\n\n12.5%"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_digits_stand_alone_and_tags_survive(tokenizer):
    assert tokenizer.tokenize("140") == ["1", "4", "0"]
    ids = tokenizer("<think></think><|end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think></think>"
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id}) == 2


def test_reloaded_beside_a_qwen2_model_it_gives_the_same_tokens(tokenizer, tiny_model, records, tmp_path):
    """AutoTokenizer replaces the class by the model type's; the tokens must not change with it."""
    tiny_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(reloaded) == len(tokenizer) == tiny_model.config.vocab_size
    assert [encode(r, reloaded) for r in records] == [encode(r, tokenizer) for r in records]
    check_round_trip(reloaded)


def test_vocabulary_without_room_is_refused():
    with pytest.raises(ValueError, match="too small"):
        train_tokenizer(["一"], vocab_size=200)
