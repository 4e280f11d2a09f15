"""Label smoothing on heads that scale or cap their logits: against the plain formula, value and gradients."""

import copy

import pytest
import torch
from tiny import TINY_SIZES, assert_training_loss_is, evaluation_loss, first_batch, tiny_trainer
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig

from hf_reason.losses import smoothing, token_weights
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

HEADS = {
    # a cap that bends the logits: without it the smoothing would be another one
    "gemma2": (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 2.0, "num_key_value_heads": 1}),
    "granite": (GraniteConfig, {"logits_scaling": 0.25, "num_key_value_heads": 1}),
}


def _model(kind, tokenizer):
    config, fields = HEADS[kind]
    torch.manual_seed(0)
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    values = {**TINY_SIZES, **ids, **fields, "pad_token_id": tokenizer.pad_token_id, "tie_word_embeddings": False}
    model = AutoModelForCausalLM.from_config(config(**values), attn_implementation="eager")
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model.float()


def _plain_loss(model, batch, factor):
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].double()
    log_p = logits.log_softmax(-1)
    nll = -log_p.gather(-1, batch["labels"][:, 1:].clamp(min=0).unsqueeze(-1)).squeeze(-1)
    spans = (batch["labels"], batch["segment_ids"], batch["step_ids"])
    weights = token_weights(*spans, thought_weight=0.5)[:, 1:].double()
    return (weights * ((1 - factor) * nll - factor * log_p.mean(-1))).sum() / weights.sum()


@pytest.mark.parametrize("kind", HEADS)
def test_smoothing_of_scaled_and_capped_heads(tmp_path, tokenizer, records, kind, monkeypatch):
    monkeypatch.setattr(smoothing, "_TILE", 4096)  # several blocks of the vocabulary
    model = _model(kind, tokenizer)
    trainer = tiny_trainer(
        CoTSFTTrainer,
        CoTSFTConfig,
        tmp_path,
        model,
        tokenizer,
        records,
        label_smoothing_factor=0.2,
        thought_weight=0.5,
    )
    batch, reference = first_batch(trainer), copy.deepcopy(model).train()
    expected = _plain_loss(reference, batch, 0.2)
    assert abs(expected.item() - _plain_loss(reference, batch, 0.0).item()) > 1e-3
    assert_training_loss_is(trainer, batch, expected, reference)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected.item(), abs=1e-5)
    trainer.train()
