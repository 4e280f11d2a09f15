"""Pain 17, huggingface/trl#5213, #6105: the boundary between prompt and completion is found at the wrong token."""

import logging

from plain_trl import sft_trainer, targets, template, templates

from hf_reason.text import encode, encode_prompt, render


def _merging_pair(tokenizer):
    """A prompt and a completion of one character each that the tokenizer joins to one token."""
    for token_id in tokenizer.get_vocab().values():
        text = tokenizer.decode([token_id])
        if len(text) == 2 and text.isalpha() and len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1:
            return text[0], text[1]
    raise AssertionError("no token of two characters")


def test_plain_trl_trains_on_another_prompt_than_it_generates_from(tmp_path, tiny_model, tokenizer, caplog):
    tokenizer.chat_template = None
    prompt, completion = _merging_pair(tokenizer)
    with caplog.at_level(logging.WARNING):
        trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [{"prompt": prompt, "completion": completion + "。"}])
    row = trainer.train_dataset[0]
    assert row["input_ids"][: -len(targets(row))] != tokenizer(prompt, add_special_tokens=False)["input_ids"]


def test_the_prompt_of_training_is_the_prompt_of_generation_token_by_token(tokenizer, records):
    tokenizer.bos_token = tokenizer.eos_token  # some templates write one
    for name in (None, *templates()):
        tokenizer.chat_template = name and template(name)
        for record in (records[0], {**records[1], "steps": []}):
            row = encode(record, tokenizer)
            prompt = encode_prompt(record, tokenizer, thinking=bool(record["steps"]))
            assert row["input_ids"][: len(prompt)] == prompt, name
            assert row["labels"] == [-100] * len(prompt) + row["input_ids"][len(prompt) :], name


def test_also_where_the_tokenizer_would_merge_across_it(tokenizer):
    first, second = _merging_pair(tokenizer)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    record = {"context": "题" + first, "task": "", "steps": [], "answer": second}
    tokenizer.chat_template += "<think>\n\n</think>" + first  # the template's last character joins with the answer
    row = encode(record, tokenizer)
    prompt = render(record, tokenizer)["prompt"]
    assert row["input_ids"][: row["labels"].count(-100)] == tokenizer(prompt, add_special_tokens=False)["input_ids"]
