"""Tokens and spans: coverage, boundaries, the start-up check (pains 1, 4, 17)."""

import copy

import pytest
from chat_templates import HYBRID_TEMPLATE, R1_PREFILL_TEMPLATE, R1_TEMPLATE
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.data.record import make_record
from hf_reason.text import check_round_trip, encode, encode_prompt, end_token_id, parse, render

_TEXT = st.text(min_size=1, max_size=12)


def _target(encoded: dict) -> list[int]:
    return [token for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label != -100]


@pytest.mark.parametrize("template", [None, R1_TEMPLATE, R1_PREFILL_TEMPLATE, HYBRID_TEMPLATE])
def test_spans_cover_every_token_once(_session_tokenizer, template):
    tokenizer = copy.deepcopy(_session_tokenizer)
    tokenizer.chat_template = template

    @settings(max_examples=80, deadline=None)
    @given(context=_TEXT, steps=st.lists(_TEXT, max_size=5), answer=_TEXT)
    def check(context, steps, answer):
        record = make_record(context, steps, answer)
        encoded = encode(record, tokenizer)
        length = len(encoded["input_ids"])
        assert all(len(column) == length for column in encoded.values())
        prompt = encode_prompt(record, tokenizer, thinking=bool(record["steps"]))
        assert encoded["input_ids"][: len(prompt)] == prompt
        segments, numbers = encoded["segment_ids"], encoded["step_ids"]
        assert segments[: len(prompt)] == numbers[: len(prompt)] == [0] * len(prompt)
        assert 0 not in segments[len(prompt) :]
        assert numbers == sorted(numbers)
        assert set(numbers[len(prompt) :]) == set(range(1, len(record["steps"]) + 2))
        assert _target(encoded) == encoded["input_ids"][len(prompt) :]

    check()


def test_tokens_of_a_step_decode_to_that_step(tokenizer, records):
    for record in records:
        encoded = encode(record, tokenizer)
        for number, step in enumerate(record["steps"], start=1):
            ids = [t for t, s in zip(encoded["input_ids"], encoded["step_ids"], strict=True) if s == number]
            assert f"步骤{number}:{step}\n" in tokenizer.decode(ids)
        answer = [t for t, s in zip(encoded["input_ids"], encoded["segment_ids"], strict=True) if s == 2]
        assert tokenizer.decode(answer) == record["answer"] + "<|end|>"


def test_prompt_in_training_is_the_prompt_at_generation(tokenizer, records):
    """Pain 17: the boundary is where generation starts, also when a tokenizer would merge across it."""
    for record in records[:10]:
        encoded, prompt = encode(record, tokenizer), encode_prompt(record, tokenizer)
        assert encoded["labels"].index(encoded["input_ids"][len(prompt)]) == len(prompt)
        assert tokenizer.decode(prompt) == render(record, tokenizer)["prompt"]


def test_completion_ends_in_the_end_of_turn(tokenizer, records):
    """Pain 4, also for a template whose turn ends in another token than the EOS."""
    assert encode(records[0], tokenizer)["labels"][-1] == tokenizer.eos_token_id
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|turn|>")
    assert end_token_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|turn|>")
    assert encode(records[0], tokenizer)["labels"][-1] == end_token_id(tokenizer)


def test_decoded_tokens_parse_back(tokenizer, records):
    for record in records:
        parsed = parse(tokenizer.decode(_target(encode(record, tokenizer))[:-1]))
        assert (parsed.steps, parsed.answer) == (record["steps"], record["answer"])


@pytest.mark.parametrize("template", [None, R1_TEMPLATE, R1_PREFILL_TEMPLATE, HYBRID_TEMPLATE])
def test_check_accepts_templates_that_delete_thoughts(tokenizer, template):
    tokenizer.chat_template = template
    check_round_trip(tokenizer)


def test_check_refuses_a_template_without_the_user_turn(tokenizer):
    tokenizer.chat_template = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    with pytest.raises(ValueError, match="drops the user's turn"):
        check_round_trip(tokenizer)


def test_check_refuses_a_vocabulary_that_loses_text():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "步骤": 2}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="does not give back"):
        check_round_trip(PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="<unk>", eos_token="<eos>"))
