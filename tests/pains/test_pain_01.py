"""Pain 1, huggingface/open-r1#515, hiyouga/LLaMA-Factory#7556: the chat template drops the reasoning in silence."""

import pytest
from plain_trl import messages, sft_trainer, targets, template, templates

from hf_reason.text import check_round_trip, encode, parse, render


def test_plain_trl_trains_on_the_answer_without_its_chain(tmp_path, tiny_model, tokenizer, records):
    tokenizer.chat_template = template("deepseek_r1_distill")
    trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [{"messages": messages(row)} for row in records[:2]])
    text = tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    assert records[0]["answer"] in text and records[0]["steps"][0] not in text


def test_every_published_template_keeps_the_chain_here(tokenizer, records):
    tokenizer.bos_token = tokenizer.eos_token  # some templates write one
    for name, text in templates().items():
        tokenizer.chat_template = text
        check_round_trip(tokenizer)
        whole = "".join(render(records[0], tokenizer).values())
        assert whole.count("<think>") == whole.count("</think>") == 1, name
        written = tokenizer.decode(targets(encode(records[0], tokenizer))[:-1])
        assert parse(written).steps == records[0]["steps"], name


def test_a_template_that_loses_the_problem_is_refused_before_training(tokenizer):
    tokenizer.chat_template = "{% for m in messages if m['role'] == 'system' %}{{ m['content'] }}{% endfor %}<bot>"
    with pytest.raises(ValueError, match="drops the user's turn.*chat_template_path"):
        check_round_trip(tokenizer)
