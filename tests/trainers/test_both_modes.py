"""Training on records with a chain and without one: both modes in a batch, in a row, and under one prompt."""

import pytest
import torch
from chat_templates import DEEPSEEK_V3_1_TEMPLATE, QWEN2_5_TEMPLATE, QWEN3_TEMPLATE
from datasets import Dataset
from tiny import first_batch, tiny_trainer, training_loss

from hf_reason.text import has_switch, render
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.modes import count_chains

SHOWN = ("segment_ids", "step_ids")


def mixed(records, count=6):
    return [{**record, "steps": []} if place % 2 else record for place, record in enumerate(records[:count])]


def make(tmp_path, model, tokenizer, records, **options):
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, records, **options)


@pytest.mark.parametrize("template", [QWEN3_TEMPLATE, DEEPSEEK_V3_1_TEMPLATE])
@pytest.mark.parametrize("packing", [False, True])
def test_each_record_is_trained_in_its_own_mode(tmp_path, tiny_model, tokenizer, records, template, packing):
    """Padded or packed, the labels are the completions that `render` writes for each record, and no empty thought."""
    tokenizer.chat_template = template
    rows = mixed(records)
    trainer = make(tmp_path, tiny_model, tokenizer, rows, packing=packing, max_length=2048)
    batch = first_batch(trainer, None)
    trained = [
        tokenizer.decode(labels[labels >= 0], skip_special_tokens=False)
        for labels in ([batch["labels"].flatten()] if packing else batch["labels"])
    ]
    text = "".join(trained)
    wanted = [render(row, tokenizer)["completion"] for row in rows]
    assert all(text.count(completion) >= 1 for completion in wanted)
    assert text.count("</think>") == sum(bool(row["steps"]) for row in rows)
    assert "<think>\n\n</think>" not in text
    assert torch.isfinite(training_loss(trainer, batch))


def test_one_prompt_for_both_modes_is_refused_before_training(tmp_path, tiny_model, tokenizer, records):
    tokenizer.chat_template = QWEN2_5_TEMPLATE
    with pytest.raises(ValueError, match=r"3 of 6 training records \(50.0%\) have no chain.*--add_thinking_switch"):
        make(tmp_path, tiny_model, tokenizer, mixed(records))
    # one mode alone is no mixture
    for rows in (records[:4], [{**record, "steps": []} for record in records[:4]]):
        make(tmp_path, tiny_model, tokenizer, rows)
    trainer = make(tmp_path, tiny_model, tokenizer, mixed(records), add_thinking_switch=True)
    assert has_switch(trainer.processing_class)


def test_a_stream_is_judged_when_the_second_mode_turns_up(tmp_path, tiny_model, tokenizer, records):
    tokenizer.chat_template = QWEN2_5_TEMPLATE
    rows = [*records[:3], {**records[3], "steps": []}]
    stream = Dataset.from_list(rows).to_iterable_dataset()
    with pytest.raises(ValueError, match="streamed training records .* have no chain"):
        trainer = make(tmp_path, tiny_model, tokenizer, stream, max_steps=4, per_device_train_batch_size=1)
        trainer.train()
    trainer = make(tmp_path, tiny_model, tokenizer, Dataset.from_list(records[:4]).to_iterable_dataset(), max_steps=1)
    trainer.train()
    assert set(SHOWN) <= set(next(iter(trainer.train_dataset)))


def test_chains_are_counted_in_views_of_a_data_set():
    rows = Dataset.from_list([{"steps": ["a"] * (n % 3), "x": "y"} for n in range(12)])
    assert count_chains(rows) == (8, 4)
    assert count_chains(rows.select(range(0, 12, 3))) == (0, 4)
    assert count_chains(rows.shuffle(seed=0).select(range(0))) == (0, 0)
