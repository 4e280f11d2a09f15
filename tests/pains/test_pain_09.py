"""Pain 9, arcee-ai/DistillKit#7, #29, huggingface/trl#4392: teacher and student have different tokenizers."""

import pytest
from plain_trl import messages
from tiny import tiny_qwen2, tiny_settings, tiny_trainer

from hf_reason.text import render, train_tokenizer
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer


@pytest.fixture
def foreign(tokenizer, records):
    """A tokenizer of the same size in which ids mean something else."""
    texts = [text for row in records[30:] for text in render({**row, "steps": row["steps"][::-1]}).values()]
    other = train_tokenizer([*texts, "something else entirely " * 50], vocab_size=len(tokenizer))
    assert other.get_vocab() != tokenizer.get_vocab()
    return other


def test_plain_trl_compares_by_position(tmp_path, tiny_model, tokenizer, records, foreign):
    """It never asks for the teacher's tokenizer: equal sizes are enough for it."""
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    settings = tiny_settings(tmp_path)
    settings.pop("max_length")
    trainer = DistillationTrainer(
        model=tiny_model,
        teacher_model=tiny_qwen2(foreign, seed=1, vocab_size=len(tokenizer)),
        args=DistillationConfig(**settings),
        train_dataset=Dataset.from_list([{"prompt": messages(records[0])[:1]}]),
        processing_class=tokenizer,
    )
    assert trainer.teacher_model is not None


def test_it_is_refused_with_the_methods_that_fit(tmp_path, tiny_model, tokenizer, records, foreign):
    options = {"teacher_model": tiny_qwen2(foreign, seed=1, vocab_size=len(tokenizer)), "teacher_tokenizer": foreign}
    with pytest.raises(ValueError) as refused:
        tiny_trainer(
            DistillKLTrainer, DistillKLConfig, tmp_path, tiny_model, tokenizer, records[:4], trainer_options=options
        )
    message = str(refused.value)
    assert "is not the teacher's" in message and "hf-reason sft" in message and "GOLD" in message
