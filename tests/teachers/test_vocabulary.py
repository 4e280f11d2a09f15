"""shared_vocabulary: padded heads are sliced, look-alikes are refused (pains 8 and 9)."""

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from hf_reason.text import ensure_pad_token, train_tokenizer
from hf_reason.text.vocabulary import shared_vocabulary


def _changed(tokenizer, change):
    """The tokenizer with another text in its definition."""
    backend = change(tokenizer.backend_tokenizer.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(backend), eos_token=tokenizer.eos_token)


def test_padded_heads_share_the_tokenizers_ids(tokenizer):
    """Pain 8."""
    assert shared_vocabulary(tokenizer, tokenizer, len(tokenizer) + 5, len(tokenizer) + 64) == len(tokenizer)


def test_an_appended_pad_token_does_not_count(tokenizer):
    plain = _changed(tokenizer, lambda text: text)
    plain.pad_token = plain.eos_token
    padded = _changed(tokenizer, lambda text: text)
    for token in ("<|endoftext|>", "<|pad|>", "<unk>"):
        assert token not in plain.get_vocab() or token == plain.eos_token or token == tokenizer.pad_token
    padded.add_special_tokens({"pad_token": "<|a new pad|>"})
    assert len(padded) == len(plain) + 1
    assert shared_vocabulary(padded, plain, len(padded), len(plain)) == len(plain)
    ensure_pad_token(padded)


def test_a_pad_token_that_both_know_is_a_token_of_both(tokenizer):
    padded, plain = (_changed(tokenizer, lambda text: text) for _ in range(2))
    padded.add_special_tokens({"pad_token": "<|a new pad|>"})
    plain.add_tokens(["<|a new pad|>"])
    assert shared_vocabulary(padded, plain, len(padded)) == len(padded)
    assert shared_vocabulary(plain, padded, len(padded)) == len(padded)


def test_the_same_ids_with_another_meaning_are_refused(tokenizer):
    """Pain 9: two tokenizers of one family whose special ids mean different things."""
    other = _changed(tokenizer, lambda text: text.replace("<think>", "<reason>").replace("</think>", "</reason>"))
    with pytest.raises(ValueError) as caught:
        shared_vocabulary(tokenizer, other)
    message = str(caught.value)
    assert "2 of" in message and "'<think>'" in message and "'<reason>'" in message
    assert "only some (special) ids" in message and "GOLD" in message and "hf-reason sft" in message


def test_another_tokenizer_is_refused(tokenizer):
    other = train_tokenizer(["完全不同的文本" * 3, "something else entirely"], vocab_size=300)
    with pytest.raises(ValueError, match="they are different ones.*GOLD"):
        shared_vocabulary(tokenizer, other)


def test_one_vocabulary_split_otherwise_is_refused(tokenizer):
    import json

    def without_merges(text):
        definition = json.loads(text)
        definition["model"]["merges"] = definition["model"]["merges"][:5]
        return json.dumps(definition)

    with pytest.raises(ValueError, match="splits text differently"):
        shared_vocabulary(tokenizer, _changed(tokenizer, without_merges))


def test_a_head_without_the_tokenizers_rows_is_refused(tokenizer):
    with pytest.raises(ValueError, match=f"only {len(tokenizer) - 1} rows"):
        shared_vocabulary(tokenizer, tokenizer, len(tokenizer) - 1)
