"""Pain 3, hiyouga/LLaMA-Factory#7905, modelscope/ms-swift#5927: a loss on the empty thought kills the hybrid mode."""

import pytest
from plain_trl import sft_trainer, targets, template
from tiny import first_batch, tiny_trainer

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

HYBRID = ("qwen3", "qwen3_5_think", "glm4moe", "nemotron_3_nano")


def test_plain_trl_learns_the_injected_empty_thought(tmp_path, tiny_model, tokenizer, records):
    tokenizer.chat_template = template("qwen3")
    row = {
        "prompt": [{"role": "user", "content": records[0]["context"]}],
        "completion": [{"role": "assistant", "content": records[0]["answer"]}],
    }
    trainer = sft_trainer(tmp_path, tiny_model, tokenizer, [row])
    learnt = tokenizer.decode(targets(trainer.train_dataset[0]))
    assert learnt.startswith("<think>\n\n</think>\n\n" + records[0]["answer"])


@pytest.mark.parametrize("name", HYBRID)
def test_only_what_the_model_writes_is_learnt_in_both_modes(tmp_path, tiny_model, tokenizer, records, name):
    tokenizer.chat_template = template(name)
    rows = [records[0], {**records[1], "steps": []}]
    trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, rows)
    batch = first_batch(trainer, 2)
    learnt = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert "</think>" in learnt[0] and records[0]["steps"][0] in learnt[0]
    end = tokenizer.decode(batch["labels"][1][batch["labels"][1] != -100][-1:])
    assert learnt[1] == records[1]["answer"] + end, "the empty thought stays in the prompt"
    prompts = [
        tokenizer.decode(ids[labels == -100]) for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    assert "</think>" not in prompts[0] and "</think>" in prompts[1]
