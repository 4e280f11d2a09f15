"""Pain 4, huggingface/open-r1#492, #494, #603, huggingface/trl#1623: the end of the turn is never learnt."""

import pytest
from plain_trl import targets, template
from tiny import first_batch, tiny_trainer
from transformers import DataCollatorForLanguageModeling

from hf_reason.text import encode, end_token_id
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


def _trainer(folder, model, tokenizer, rows):
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, folder, model, tokenizer, rows)


def test_the_plain_collator_masks_the_end_with_the_padding(tokenizer):
    tokenizer.pad_token = tokenizer.eos_token
    ids = tokenizer("3+4=7", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    batch = DataCollatorForLanguageModeling(tokenizer, mlm=False)([{"input_ids": ids}])
    assert batch["labels"][0, -1] == -100 and batch["labels"][0, -2] == ids[-2]


@pytest.mark.parametrize("end", ["<|end|>", "<|im_end|>"])
def test_every_row_ends_in_the_end_of_the_turn(tmp_path, tiny_model, tokenizer, records, end):
    """Also where a pad equals the EOS, and where the template ends turns with another token than the EOS."""
    if end not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [end]})
        tokenizer.chat_template = template("qwen3")
    tokenizer.pad_token = tokenizer.eos_token
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records[:4])
    batch = first_batch(trainer)
    assert tokenizer.convert_ids_to_tokens(end_token_id(tokenizer)) == end
    for row in batch["labels"]:
        assert row[row != -100][-1] == end_token_id(tokenizer)
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, end_token_id(tokenizer))


def test_rows_without_it_are_refused_at_the_first_batch(tmp_path, tiny_model, tokenizer, records):
    rows = [{name: column[:-1] for name, column in encode(row, tokenizer).items()} for row in records[:4]]
    assert targets(rows[0])[-1] != end_token_id(tokenizer)
    with pytest.raises(ValueError, match="does not end in the end-of-turn token"):
        _trainer(tmp_path, tiny_model, tokenizer, rows).train()
