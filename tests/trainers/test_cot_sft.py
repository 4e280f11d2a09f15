"""CoTSFTTrainer: parity with SFTTrainer and with the plain formula, accumulation, packing, PEFT, resume."""

import copy
import logging
from functools import partial

import pytest
import torch
from datasets import Dataset
from tiny import (
    assert_accumulation_changes_nothing,
    assert_training_loss_is,
    evaluation_loss,
    first_batch,
    logged,
    tiny_settings,
    tiny_trainer,
    train_and_resume,
    training_loss,
)
from trl import SFTConfig, SFTTrainer

from hf_reason.losses import token_weights
from hf_reason.text import encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


def _config(tmp_path, **overrides):
    return CoTSFTConfig(**tiny_settings(tmp_path, **overrides))


def _trainer(tmp_path, model, tokenizer, records, eval_records=None, trainer_kwargs=None, **overrides):
    return tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, records, eval_records, trainer_kwargs, **overrides
    )


def _plain_loss(model, batch, smoothing=0.0, **weighting):
    """The weighted, smoothed loss written from its definition, with the full logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch.get("attention_mask")).logits[:, :-1].double()
    log_p = logits.log_softmax(-1)
    labels = batch["labels"][:, 1:]
    nll = -log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    loss = (1 - smoothing) * nll + smoothing * -log_p.mean(-1)
    weights = token_weights(batch["labels"], batch["segment_ids"], batch["step_ids"], **weighting)[:, 1:].double()
    return (weights * loss).sum() / weights.sum()


def test_with_weights_of_one_the_loss_is_sft_trainers(tmp_path, tiny_model, tokenizer, records):
    run = {"max_steps": 4, "gradient_accumulation_steps": 2}
    ours = _trainer(tmp_path / "a", tiny_model, tokenizer, records, **run)
    rows = [encode(record, tokenizer) for record in records]
    theirs = SFTTrainer(
        model=copy.deepcopy(tiny_model),
        args=SFTConfig(**tiny_settings(tmp_path / "b", **run)),
        train_dataset=Dataset.from_list([{"input_ids": r["input_ids"], "labels": r["labels"]} for r in rows]),
        processing_class=tokenizer,
    )
    ours.train()
    theirs.train()
    assert logged(ours) == pytest.approx(logged(theirs), abs=1e-6)
    for left, right in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


@pytest.mark.parametrize(
    ("smoothing", "weighting"),
    [
        (0.0, {"thought_weight": 0.3, "answer_weight": 2.0}),
        (0.0, {"step_weighting": "step"}),
        (0.2, {}),
        (0.1, {"thought_weight": 0.0, "answer_weight": 0.01, "step_weighting": "step"}),
    ],
)
def test_fused_loss_equals_the_plain_formula(tmp_path, tiny_model, tokenizer, records, smoothing, weighting):
    """Pain 13, for every weighting: value and gradients, in training and in evaluation."""
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, label_smoothing_factor=smoothing, **weighting)
    batch = first_batch(trainer)
    reference = copy.deepcopy(tiny_model).train()
    expected = _plain_loss(reference, batch, smoothing, **weighting)
    assert_training_loss_is(trainer, batch, expected, reference)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected.item(), abs=1e-5)


def test_weighted_loss_builds_no_logits(tmp_path, tiny_model, tokenizer, records):
    """No tensor of [batch, time, vocabulary] in the forward pass, with weights and smoothing on."""
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, label_smoothing_factor=0.1, step_weighting="step")
    trainer.model.lm_head.forward = None  # calling the head would fail
    trainer.train()
    assert all(loss > 0 for loss in logged(trainer))


@pytest.mark.parametrize(
    "weighting", [{}, {"step_weighting": "step"}, {"thought_weight": 0.2, "label_smoothing_factor": 0.1}]
)
def test_accumulation_of_eight_equals_a_batch_of_eight(tmp_path, tiny_model, tokenizer, records, weighting):
    """Pain 12: 1x8 = 8x1, with rows of very different lengths."""
    uneven = sorted(records, key=lambda record: len(record["steps"]))[:4] + records[-4:]
    assert_accumulation_changes_nothing(partial(_trainer, tmp_path, tiny_model, tokenizer, uneven, **weighting))


@pytest.mark.parametrize("weighting", [{}, {"step_weighting": "step"}])
def test_packed_loss_equals_padded_loss(tmp_path, tiny_model, tokenizer, records, weighting):
    padded = _trainer(tmp_path, tiny_model, tokenizer, records, **weighting)
    packed = _trainer(tmp_path, tiny_model, tokenizer, records, packing=True, max_length=2048, **weighting)
    assert len(packed.train_dataset) < len(padded.train_dataset)
    losses = [evaluation_loss(trainer, first_batch(trainer, None)) for trainer in (padded, packed)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_overlong_examples_are_dropped_counted_and_never_cut(tmp_path, tiny_model, tokenizer, records, caplog):
    """Pain 7."""
    lengths = sorted(len(encode(record, tokenizer)["input_ids"]) for record in records)
    limit = lengths[len(lengths) // 2]
    kept = sum(length <= limit for length in lengths)
    for packing in (False, True):
        with caplog.at_level(logging.WARNING):
            trainer = _trainer(tmp_path, tiny_model, tokenizer, records, max_length=limit, packing=packing)
        report = trainer.length_reports["train"]
        assert (report.overlong, report.overlong_tokens) == (len(records) - kept, sum(n for n in lengths if n > limit))
        assert f"{report.overlong} of {len(records)} examples" in caplog.text
        ends = sum(row["input_ids"].count(tokenizer.eos_token_id) for row in trainer.train_dataset)
        assert ends == kept


def test_truncation_keeps_the_columns_aligned(tmp_path, tiny_model, tokenizer, records):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, max_length=80, overlong="truncate")
    whole = {tuple(row["input_ids"][:80]): row for row in (encode(record, tokenizer) for record in records)}
    for row in trainer.train_dataset:
        for column in ("labels", "segment_ids", "step_ids"):
            assert row[column] == whole[tuple(row["input_ids"])][column][:80]
    trainer.train()


def test_overlong_error_and_nothing_left(tmp_path, tiny_model, tokenizer, records):
    with pytest.raises(ValueError, match="overlong='drop'"):
        _trainer(tmp_path, tiny_model, tokenizer, records, max_length=60, overlong="error")
    with pytest.raises(ValueError, match="every example is longer"):
        _trainer(tmp_path, tiny_model, tokenizer, records, max_length=8)


def test_first_batch_without_the_end_of_turn_is_refused(tmp_path, tiny_model, tokenizer, records):
    """Pain 4."""
    rows = [{name: column[:-1] for name, column in encode(r, tokenizer).items()} for r in records]
    trainer = _trainer(tmp_path, tiny_model, tokenizer, rows)
    with pytest.raises(ValueError, match="does not end in the end-of-turn token"):
        trainer.train()


def test_lora_trains_only_the_adapter(tmp_path, tiny_model, tokenizer, records):
    from peft import LoraConfig

    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights="gaussian")
    trainer = _trainer(
        tmp_path,
        tiny_model,
        tokenizer,
        records,
        trainer_kwargs={"peft_config": lora},
        label_smoothing_factor=0.1,
        step_weighting="step",
        gradient_checkpointing=True,
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_B" in name or "lora_A" in name), name


def test_evaluation_logs_loss_and_generated_figures(tmp_path, tiny_model, tokenizer, records):
    seen = []
    trainer = _trainer(
        tmp_path,
        tiny_model,
        tokenizer,
        records[:8],
        records[8:16],
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model="step_accuracy",
        load_best_model_at_end=True,
        greater_is_better=True,
        trainer_kwargs={"generation_eval": lambda model: seen.append(model) or {"step_accuracy": 1.0 / len(seen)}},
    )
    trainer.train()
    assert len(seen) == 2
    assert trainer.state.best_metric == 1.0
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    assert any("eval_step_accuracy" in row for row in trainer.state.log_history)
    assert any("eval_loss" in row for row in trainer.state.log_history)


def test_several_evaluation_sets_are_generated_on_once(tmp_path, tiny_model, tokenizer, records):
    seen = []
    trainer = CoTSFTTrainer(
        model=tiny_model,
        args=_config(tmp_path),
        train_dataset=Dataset.from_list(records[:8]),
        eval_dataset={name: Dataset.from_list(records[8:12]) for name in ("one", "two")},
        processing_class=tokenizer,
        generation_eval=lambda model: seen.append(model) or {"step_accuracy": 0.5},
    )
    metrics = trainer.evaluate()
    assert len(seen) == 1
    assert metrics["eval_step_accuracy"] == 0.5
    assert {"eval_one_loss", "eval_two_loss"} <= metrics.keys()


@pytest.mark.parametrize("muon", [None, 0.02])
@pytest.mark.parametrize("order", ["random", "group_by_length"])
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, tiny_model, tokenizer, records, muon, order):
    """Also when it stopped in the middle of the second epoch."""
    records = records[:8]
    options = {
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "muon_learning_rate": muon,
        "train_sampling_strategy": order,
    }
    whole, resumed = train_and_resume(partial(_trainer, tmp_path, tiny_model, tokenizer, records, **options), at=3)
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_muon_gets_the_matrices_and_adamw_the_rest(tmp_path, tiny_model, tokenizer, records):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, muon_learning_rate=0.02, warmup_steps=1)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    optimizer = trainer.optimizer.optimizer
    named = {id(p): name for name, p in trainer.model.named_parameters()}
    matrices = {named[id(p)] for group in optimizer._muon.param_groups for p in group["params"]}
    assert matrices == {n for n in before if n.endswith("weight") and ("proj" in n)}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)
    assert all(not torch.equal(p, before[n]) for n, p in trainer.model.named_parameters() if "bias" not in n)


def test_trl_formats_still_train_and_weights_are_refused_there(tmp_path, tiny_model, tokenizer):
    rows = [{"prompt": "1+1=", "completion": "2"}, {"prompt": "2+2=", "completion": "4"}]
    _trainer(tmp_path, tiny_model, tokenizer, rows).train()
    with pytest.raises(ValueError, match="no steps, tasks or domains to weight"):
        _trainer(tmp_path, tiny_model, tokenizer, rows, step_weighting="step")
    with pytest.raises(ValueError, match="neither records"):
        _trainer(tmp_path, tiny_model, tokenizer, [{"question": "1+1", "answer": "2"}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_weighting": "word"}, "step_weighting"),
        ({"packing": True, "packing_strategy": "wrapped"}, "cuts chains"),
        ({"overlong": "cut"}, "overlong"),
        ({"thought_weight": -1.0}, "must not be negative"),
        ({"thought_weight": 0.0, "answer_weight": 0.0}, "no loss"),
        ({"loss_type": "dft", "answer_weight": 2.0}, "loss_type"),
    ],
)
def test_options_that_exclude_each_other_fail_in_the_config(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        _config(tmp_path, **options)


@pytest.mark.parametrize("weighting", [{}, {"step_weighting": "step"}, {"label_smoothing_factor": 0.1}])
def test_a_batch_without_any_target_costs_nothing(tmp_path, tiny_model, tokenizer, records, weighting):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, **weighting)
    trainer._first_batch_checked = True
    batch = first_batch(trainer)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    for loss in (training_loss(trainer, batch), trainer.compute_loss(trainer.model, dict(batch))):
        loss.backward()
        assert loss.item() == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in trainer.model.parameters())


def test_tokenizer_of_a_loaded_model_gets_a_safe_pad_token(tmp_path, tiny_model, tokenizer, records):
    """Pain 4, when the trainer finds the tokenizer by itself."""
    from transformers import AutoModelForCausalLM

    tokenizer.pad_token = tokenizer.eos_token
    tiny_model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    for model in (str(tmp_path / "m"), AutoModelForCausalLM.from_pretrained(tmp_path / "m")):
        trainer = CoTSFTTrainer(model, _config(tmp_path), train_dataset=Dataset.from_list(records[:4]))
        pad = trainer.processing_class.pad_token_id
        assert pad not in (None, trainer.processing_class.eos_token_id)
        assert trainer.data_collator.pad_token_id == trainer.model.generation_config.pad_token_id == pad
