"""Pain 7, hiyouga/LLaMA-Factory#3995, huggingface/open-r1#388: chains are cut before `</think>`."""

import logging

from plain_trl import messages, sft_trainer
from tiny import tiny_trainer

from hf_reason.text import encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


def test_plain_trl_cuts_the_chain_and_the_answer(tmp_path, tiny_model, tokenizer, records, caplog):
    rows = [{"messages": messages(row)} for row in records]
    with caplog.at_level(logging.WARNING):
        trainer = sft_trainer(tmp_path, tiny_model, tokenizer, rows, max_length=80)
    texts = [tokenizer.decode(row["input_ids"]) for row in trainer.train_dataset]
    cut = [text for text in texts if "</think>" not in text]
    assert len(cut) > len(records) / 2 and "max_length" not in caplog.text


def test_here_they_are_dropped_whole_counted_and_reported(tmp_path, tiny_model, tokenizer, records, caplog):
    lengths = sorted(len(encode(row, tokenizer)["input_ids"]) for row in records)
    limit = lengths[len(lengths) // 2]
    with caplog.at_level(logging.WARNING):
        trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, max_length=limit)
    report = trainer.length_reports["train"]
    over = [length for length in lengths if length > limit]
    assert (report.overlong, report.overlong_tokens) == (len(over), sum(over))
    assert f"{len(over)} of {len(records)} examples" in caplog.text
    assert len(trainer.train_dataset) == len(records) - len(over)
    assert all("</think>" in tokenizer.decode(row["input_ids"]) for row in trainer.train_dataset)
