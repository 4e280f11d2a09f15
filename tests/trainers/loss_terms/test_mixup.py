"""MixUp: against the plain formula with `inputs_embeds`, repeatable draws, what it refuses."""

import copy
from functools import partial

import pytest
import torch
from peft import LoraConfig
from tiny import assert_training_loss_is, first_batch, logged, tiny_trainer, train_and_resume

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.loss_terms.mixup import draw_mix


def _trainer(tmp_path, model, tokenizer, rows, peft_config=None, **options):
    options = {"max_steps": 4, "mixup_alpha": 0.4, **options}
    adapter = {"peft_config": peft_config}
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, rows, rows, adapter, **options)


def _plain_loss(model, batch, mix, smoothing=0.0, answer_weight=1.0):
    """Each row and its partner, mixed by hand; the labels of both."""
    table, total, weight = model.get_input_embeddings(), 0.0, 0.0
    for row, partner in enumerate(mix.partner.tolist()):
        sizes = [int(batch["attention_mask"][i].sum()) for i in (row, partner)]
        own, other = (table(batch["input_ids"][i]) for i in (row, partner))
        mixed = []
        for place in range(max(sizes)):
            if place < min(sizes):
                mixed.append(mix.ratio * own[place] + (1 - mix.ratio) * other[place])
            else:
                mixed.append(own[place] if sizes[0] > sizes[1] else other[place])
        log_p = model(inputs_embeds=torch.stack(mixed).unsqueeze(0)).logits[0].double().log_softmax(-1)
        for index, share in ((row, mix.ratio), (partner, 1 - mix.ratio)):
            for place in range(1, max(sizes)):
                target = int(batch["labels"][index, place])
                if target >= 0:
                    factor = share * (answer_weight if batch["segment_ids"][index, place] == 2 else 1.0)
                    cost = -(1 - smoothing) * log_p[place - 1, target] - smoothing * log_p[place - 1].mean()
                    total, weight = total + factor * cost, weight + factor
    return total / weight


@pytest.mark.parametrize("options", [{}, {"label_smoothing_factor": 0.1, "answer_weight": 3.0}])
def test_loss_equals_the_plain_formula(tmp_path, tiny_model, tokenizer, records, options):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, **options)
    batch = first_batch(trainer, 5)
    mix = draw_mix(batch, 0.4, f"{trainer.args.seed} 0 1 0")
    assert len(set(mix.partner.tolist())) == 5 and 0 < mix.ratio < 1
    reference = copy.deepcopy(tiny_model).train()
    expected = _plain_loss(reference, batch, mix, trainer.loss_terms.smoothing.factor, trainer.args.answer_weight)
    assert_training_loss_is(trainer, batch, expected, reference)


def test_evaluation_and_hooks_are_untouched(tmp_path, tiny_model, tokenizer, records):
    """Evaluation is that of a run without MixUp, and after a training step no hook is left."""
    mixed = _trainer(tmp_path, tiny_model, tokenizer, records, max_steps=1, learning_rate=0.0)
    plain = _trainer(tmp_path, tiny_model, tokenizer, records, mixup_alpha=0.0)
    mixed.train()
    assert mixed.evaluate()["eval_loss"] == pytest.approx(plain.evaluate()["eval_loss"], abs=1e-6)
    modules = (mixed.model.get_input_embeddings(), mixed.model.base_model)
    assert not any(module._forward_hooks for module in modules)


def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, tiny_model, tokenizer, records):
    options = {"save_strategy": "steps", "save_steps": 2, "gradient_accumulation_steps": 2}
    whole, resumed = train_and_resume(partial(_trainer, tmp_path, tiny_model, tokenizer, records, **options), at=2)
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)


def test_with_lora_and_activation_checkpointing(tmp_path, tiny_model, tokenizer, records):
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, peft_config=lora, gradient_checkpointing=True)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) != ("lora_" in name), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"packing": True}, "packing=False"),
        ({"per_device_train_batch_size": 1}, "2 or more"),
        ({"mixup_alpha": -0.1}, "negative"),
        ({"loss_type": "dft"}, "mixup_alpha"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path, tiny_model, tokenizer, records, options, message):
    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, tiny_model, tokenizer, records, **options)
