"""Pain 8, huggingface/trl#2215, #3028, arcee-ai/DistillKit#12: one tokenizer, heads of 151,936 and 152,064 rows."""

import pytest
import torch
from plain_formulas import divergence
from plain_trl import messages
from tiny import first_batch, logged, tiny_qwen2, tiny_settings, tiny_trainer, training_loss

from hf_reason.trainers import DistillKLConfig, DistillKLTrainer


@pytest.fixture
def padded(tokenizer):
    """The student's tokenizer under a head with 64 rows more."""
    return tiny_qwen2(tokenizer, seed=1, vocab_size=len(tokenizer) + 64).eval()


def test_plain_trl_refuses_a_padded_teacher(tmp_path, tiny_model, tokenizer, records, padded):
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    rows = Dataset.from_list([{"prompt": messages(records[0])[:1]}])
    settings = tiny_settings(tmp_path)
    settings.pop("max_length")
    with pytest.raises(ValueError, match="vocab_size"):
        DistillationTrainer(
            model=tiny_model,
            teacher_model=padded,
            args=DistillationConfig(**settings),
            train_dataset=rows,
            processing_class=tokenizer,
        )


def test_the_shared_ids_are_compared(tmp_path, tiny_model, tokenizer, records, padded):
    trainer = tiny_trainer(
        DistillKLTrainer,
        DistillKLConfig,
        tmp_path,
        tiny_model,
        tokenizer,
        records[:4],
        trainer_options={"teacher_model": padded, "teacher_tokenizer": tokenizer},
        ce_weight=0.0,
        kl_weight=1.0,
    )
    batch = first_batch(trainer)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        both = [
            model(**inputs).logits[:, :-1, : len(tokenizer)].double().log_softmax(-1)
            for model in (trainer.model.eval(), padded)
        ]
    target = batch["labels"][:, 1:] != -100
    expected = divergence(*both, trainer.args.beta)[target].mean()
    assert training_loss(trainer, batch).item() == pytest.approx(expected.item(), abs=1e-5)
    trainer.train()
    assert all(value > 0 for value in logged(trainer))
