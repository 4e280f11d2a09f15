"""A pad for tokenizers of every shape, without a row more for it: Llama 3, Mistral, GPT-2, spare rows, longer ones."""

import pytest
from tiny import tiny_qwen2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from hf_reason.text import ensure_pad_token
from hf_reason.text.tokens import fit_tokens


def _tokenizer(*more: str, **special: str) -> PreTrainedTokenizerFast:
    words = {word: number for number, word in enumerate(("<eos>", "a", "b", *more))}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words)), eos_token="<eos>", **special)


def _model(rows: int):
    return tiny_qwen2(_tokenizer(), vocab_size=rows, pad_token_id=None)


@pytest.mark.parametrize(
    ("tokens", "pad"),
    [
        (["<|reserved_special_token_0|>", "<|reserved_special_token_1|>"], "<|reserved_special_token_1|>"),  # Llama 3
        (["<|reserved_special_token_0|>", "<|finetune_right_pad_id|>"], "<|finetune_right_pad_id|>"),  # Llama 3.1
        (["<unk>", "<s>"], "<unk>"),  # Mistral
        (["[control_8]", "<unk>"], "[control_8]"),
        (["<unused0>", "<unused98>", "<pad>"], "<pad>"),  # Gemma
        (["<｜place▁holder▁no▁0｜>", "<｜▁pad▁｜>"], "<｜▁pad▁｜>"),  # DeepSeek
        ([">>UNUSED_0<<"], ">>UNUSED_0<<"),  # Falcon
        (["<|padding|>", "<|extra_0|>"], "<|padding|>"),  # GPT-NeoX
        (["<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"], "<|vision_pad|>"),  # Qwen-VL
        (["<|fim_pad|>", "<|endoftext|>"], "<|fim_pad|>"),
        (["<|extra_0|>", "<|extra_7|>"], "<|extra_7|>"),  # Qwen
        (["[UNUSED_TOKEN_145]"], "[UNUSED_TOKEN_145]"),  # InternLM
        (["<|dummy_3|>"], "<|dummy_3|>"),  # Phi-4
        (["<SPECIAL_20>"], "<SPECIAL_20>"),  # Tekken
    ],
)
def test_a_spare_token_of_the_vocabulary_pads(tokens, pad):
    tokenizer = _tokenizer(*tokens)
    model = _model(len(tokenizer))
    fit_tokens(model, tokenizer, adapter=True)
    assert tokenizer.pad_token == pad and len(tokenizer) == model.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize("tokens", [[], ["<|image_pad|>"], ["padding", "unused1"], ["<s>", "<tool_call>"]])
@pytest.mark.parametrize("adapter", [True, False])
def test_with_nothing_spare_the_eos_pads_and_nothing_grows(tokens, adapter):
    tokenizer = _tokenizer(*tokens, bos_token="<eos>", unk_token="<eos>")  # GPT-2's shape
    rows = len(tokenizer)
    model = _model(rows)
    fit_tokens(model, tokenizer, adapter=adapter)
    assert tokenizer.pad_token == "<eos>" and len(tokenizer) == rows == model.get_input_embeddings().weight.shape[0]


def test_a_spare_row_takes_a_new_pad():
    tokenizer = _tokenizer()
    model = _model(8)  # as Qwen2's padded vocabularies
    fit_tokens(model, tokenizer, adapter=True)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<|pad|>", 3)
    assert model.get_input_embeddings().weight.shape[0] == 8


def test_a_reserved_token_that_the_template_writes_is_not_spare():
    tokenizer = _tokenizer("<|extra_0|>", "<|extra_1|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<eos>{% endfor %}<|extra_1|>"
    assert not ensure_pad_token(tokenizer, len(tokenizer)) and tokenizer.pad_token == "<|extra_0|>"


def test_a_pad_beyond_the_embeddings_is_replaced_and_no_reason_to_grow():
    tokenizer = _tokenizer("<unk>")
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    model = _model(len(tokenizer) - 1)
    fit_tokens(model, tokenizer, adapter=True)
    assert tokenizer.pad_token == "<unk>" and model.get_input_embeddings().weight.shape[0] == len(tokenizer) - 1


def test_tokens_of_texts_beyond_the_embeddings():
    tokenizer = _tokenizer("<unk>", "<|tool|>", "新")
    with pytest.raises(
        ValueError, match=r"2 tokens \('<\|tool\|>', '新'\) beyond the 4 rows .* loads on no other copy"
    ):
        fit_tokens(_model(4), tokenizer, adapter=True)
    model = _model(4)
    fit_tokens(model, tokenizer, adapter=False)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
