"""Tokenizers of every kind: what was encoded comes back, and a written completion has the same spans."""

import pytest
from chat_templates import R1_PREFILL_TEMPLATE, R1_TEMPLATE
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_reason.text import build_prompt, check_round_trip, encode, parse, render
from hf_reason.text.render import opened_by_prompt
from hf_reason.text.spans import completion_spans

SPECIAL = ["<unk>", "<s>", "</s>", "<|end|>", "<think>", "</think>"]


def _unigram(prepend: str) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=prepend)
    options = {"special_tokens": SPECIAL, "unk_token": "<unk>", "initial_alphabet": ["\n", "<", "|", ">"]}
    return tokenizer, trainers.UnigramTrainer(vocab_size=700, **options)


def _llama2() -> tuple[Tokenizer, trainers.Trainer]:
    """SentencePiece's shape: a blank before each text, and bytes for what is not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    blank = decoders.Replace("▁", " ")
    tokenizer.decoder = decoders.Sequence([blank, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    in_bytes = [f"<0x{number:02X}>" for number in range(256)]
    return tokenizer, trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL + in_bytes)


def _bytes(special: list[str], blank: bool = False, normalizer: object = None) -> tuple[Tokenizer, trainers.Trainer]:
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=blank)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return tokenizer, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)


def _tokenizer(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    backend, trainer = {
        "unigram, a blank before each text": lambda: _unigram("always"),
        "unigram": lambda: _unigram("first"),
        "Llama 2": _llama2,
        "bytes": lambda: _bytes(SPECIAL),
        "bytes, a blank before each text": lambda: _bytes(SPECIAL, blank=True),
        "bytes, NFKC": lambda: _bytes(SPECIAL, normalizer=normalizers.NFKC()),
        "tags that take the white space around them": lambda: _bytes(SPECIAL[:4]),
        "tags of several tokens": lambda: _bytes(SPECIAL[:4]),
    }[kind]()
    backend.train_from_iterator(texts, trainer)
    if kind.startswith("tags that"):
        backend.add_special_tokens([AddedToken(tag, lstrip=True, rstrip=True) for tag in SPECIAL[4:]])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    "kind",
    [
        *("unigram, a blank before each text", "unigram", "Llama 2", "bytes", "bytes, a blank before each text"),
        *("bytes, NFKC", "tags that take the white space around them", "tags of several tokens"),
    ],
)
def test_spans_of_what_was_encoded_are_found_again(records, kind):
    sample = "<|user|><|assistant|>小明有3个苹果,又买来4个,吃掉2个。还剩几个?"
    tokenizer = _tokenizer(kind, [sample] * 3 + [text for row in records for text in render(row).values()])
    for template in (None, R1_TEMPLATE, R1_PREFILL_TEMPLATE):
        tokenizer.chat_template = template
        check_round_trip(tokenizer)
        for record in records[:12]:
            row = encode(record, tokenizer)
            begin = row["labels"].count(-100)
            written = row["input_ids"][begin:]
            parsed = parse(tokenizer.decode(written[:-1], clean_up_tokenization_spaces=False))
            assert (parsed.steps, parsed.answer) == (record["steps"], record["answer"])
            spans = completion_spans(written, tokenizer, opened_by_prompt(build_prompt(record, tokenizer)))
            for name, found in spans.items():
                assert found == row[name][begin:], (kind, template)
