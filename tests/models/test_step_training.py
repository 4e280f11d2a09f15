"""StepReasoner in training: CoTSFTTrainer and the plain formula, packing, accumulation, checkpointing, DDP, Muon."""

from functools import partial

import pytest
import torch
from tiny import (
    assert_accumulation_changes_nothing,
    assert_training_loss_is,
    first_batch,
    logged,
    tiny_trainer,
    train_and_resume,
)

from hf_reason.evaluation import evaluate_model
from hf_reason.losses import token_weights
from hf_reason.text import encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.optim.muon import MuonWithAdamW


@pytest.fixture
def model(text_model):
    return text_model()


def _trainer(tmp_path, model, tokenizer, records, evaluation=None, trainer_kwargs=None, **overrides):
    return tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, records, evaluation, trainer_kwargs, **overrides
    )


def _row(record, tokenizer) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([column]) for name, column in encode(record, tokenizer).items()}


def _plain_loss(model, rows, smoothing=0.0, **weighting) -> torch.Tensor:
    """The weighted, smoothed loss from its definition: one example at a time, full logits, no padding."""
    total, divisor = 0.0, 0.0
    for row in rows:
        log_p = model(input_ids=row["input_ids"], use_cache=False).logits[:, :-1].double().log_softmax(-1)
        labels = row["labels"][:, 1:]
        nll = -log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        weights = token_weights(row["labels"], row["segment_ids"], row["step_ids"], **weighting)[:, 1:].double()
        total = total + (weights * ((1 - smoothing) * nll - smoothing * log_p.mean(-1))).sum()
        divisor = divisor + weights.sum()
    return total / divisor


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize(
    ("smoothing", "weighting"), [(0.0, {}), (0.0, {"step_weighting": "step"}), (0.1, {"thought_weight": 0.3})]
)
def test_trainer_loss_equals_the_plain_formula(tmp_path, model, tokenizer, records, packing, smoothing, weighting):
    """Value and gradients, padded and packed, through the fused head."""
    records = records[:8]
    options = {"packing": True, "max_length": 1024} if packing else {}
    trainer = _trainer(tmp_path, model, tokenizer, records, label_smoothing_factor=smoothing, **weighting, **options)
    assert (len(trainer.train_dataset) < len(records)) == packing
    batch = first_batch(trainer, None)
    if packing:
        assert "attention_mask" not in batch and (batch["position_ids"] == 0).sum() == len(records)
    trainer.model.lm_head.forward = None  # the fused path does not call the head
    expected = _plain_loss(model, [_row(record, tokenizer) for record in records], smoothing, **weighting)
    assert_training_loss_is(trainer, batch, expected, model)


def test_loss_falls_and_the_evaluation_generates(tmp_path, model, tokenizer, records):
    seen = []

    def generate(trained) -> dict[str, float]:
        options = {"max_completion_length": 8, "batch_size": 2, "progress": False}
        seen.append(evaluate_model(trained, tokenizer, records[:2], **options))
        return {"answer_accuracy": seen[-1]["answer_accuracy"]}

    trainer = _trainer(
        tmp_path,
        model,
        tokenizer,
        records[:8],
        records[8:10],
        max_steps=12,
        per_device_train_batch_size=8,
        warmup_steps=1,
        muon_learning_rate=0.02,
        eval_strategy="steps",
        eval_steps=6,
        trainer_kwargs={"generation_eval": generate},
    )
    trainer.train()
    losses = logged(trainer)
    assert losses[-1] < losses[0] - 1
    assert [result["num_records"] for result in seen] == [2, 2]
    assert sum("eval_answer_accuracy" in row for row in trainer.state.log_history) == 2


@pytest.mark.parametrize("weighting", [{}, {"step_weighting": "step"}])
def test_accumulation_of_eight_equals_a_batch_of_eight(tmp_path, model, tokenizer, records, weighting):
    uneven = sorted(records, key=lambda record: len(record["steps"]))
    rows = uneven[:4] + uneven[-4:]
    assert_accumulation_changes_nothing(partial(_trainer, tmp_path, model, tokenizer, rows, **weighting))


def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, model, tokenizer, records):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "muon_learning_rate": 0.02}
    whole, resumed = train_and_resume(partial(_trainer, tmp_path, model, tokenizer, records[:8], **options), at=2)
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)
    for left, right in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradients(tokenizer, text_model, records, reentrant):
    row = _row(records[0], tokenizer)
    gradients = []
    for checkpointing in (False, True):
        model = text_model().double().train()
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
            calls = _count_forwards(model.model.reasoner[0].mlp)
            if reentrant:  # the inputs of a re-entrant checkpoint have to require gradients
                model.enable_input_require_grads()
        # the cache, on by default, gives way
        output = model(input_ids=row["input_ids"], labels=row["labels"])
        assert (output.past_key_values is None) == checkpointing
        output.loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    assert len(calls) == 2  # in the forward pass, and once more in the backward pass
    for left, right in zip(*gradients, strict=True):
        assert torch.allclose(left, right, atol=1e-12)


def _count_forwards(module) -> list:
    calls: list = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_trainers_own_checkpointing_changes_nothing(tmp_path, model, tokenizer, records):
    curves = []
    for checkpointing in (False, True):
        trainer = _trainer(tmp_path, model, tokenizer, records[:8], gradient_checkpointing=checkpointing)
        calls = _count_forwards(trainer.model.model.decoder[0].mlp)
        trainer.train()
        curves.append((logged(trainer), len(calls)))
    assert curves[0][0] == pytest.approx(curves[1][0], abs=1e-6)
    assert curves[1][1] == 2 * curves[0][1] > 0


def test_autocast_to_bfloat16_is_finite_and_close(model, tokenizer, records):
    row = _row(records[0], tokenizer)
    exact = model(input_ids=row["input_ids"], labels=row["labels"]).loss
    exact.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(input_ids=row["input_ids"], labels=row["labels"])
    assert output.logits.dtype == torch.bfloat16  # autocast was in force
    output.loss.backward()
    assert output.loss.item() == pytest.approx(exact.item(), rel=0.01)
    flat, expected = (
        torch.cat([g.flatten() for g in part]) for part in ([p.grad for p in model.parameters()], gradients)
    )
    assert torch.isfinite(flat).all()
    assert torch.nn.functional.cosine_similarity(flat, expected, dim=0) > 0.99
    with torch.autocast("cpu", torch.bfloat16):
        prompt = row["input_ids"][:, : int((row["segment_ids"] == 0).sum()) + 8]
        assert (
            model.generate(prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False).shape[1] == prompt.shape[1] + 8
        )


def test_loss_is_divided_by_the_number_of_items(model, tokenizer, records):
    row = _row(records[0], tokenizer)
    targets = int((row["labels"][:, 1:] != -100).sum())
    inputs = {"input_ids": row["input_ids"], "labels": row["labels"]}
    mean = model(**inputs).loss
    assert mean.item() == pytest.approx(_plain_loss(model, [row]).item(), abs=1e-5)
    assert model(**inputs, num_items_in_batch=7).loss.item() == pytest.approx(mean.item() * targets / 7, rel=1e-5)


_ODD_BATCHES = {
    "one piece": ["甲乙<think>丙丁"],
    "no thought": ["甲乙丙丁"],
    "no prompt": ["<think>甲乙\n丙丁"],
    "no prompt beside one": ["<think>甲乙", "甲乙<think>丙"],
    "nothing but the start": ["<think>", "<think>"],
}


@pytest.fixture
def one_process_group():
    """A process group of this process alone: DistributedDataParallel counts the gradients all the same."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_batch_gives_every_parameter_a_gradient(text_model, tokenizer, one_process_group, attention, slots):
    """DistributedDataParallel waits for each of them, also where the stack had nothing to do."""
    model = text_model(plan_slots=slots).train()
    model.set_attn_implementation(attention)
    parallel = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)
    for name, texts in _ODD_BATCHES.items():
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        model.zero_grad()
        # a parameter without a gradient fails here at the latest, in the forward pass of the next batch
        parallel(**batch, use_cache=False).logits.square().sum().backward()
        gradients = {parameter: p.grad for parameter, p in model.named_parameters()}
        assert all(g is not None and g.isfinite().all() for g in gradients.values()), name
        assert gradients["model.decoder.0.mlp.up_proj.weight"].abs().sum() > 0
        reasoned = gradients["model.reasoner.0.mlp.up_proj.weight"].abs().sum() > 0
        assert reasoned == (slots == 1 or name == "no prompt"), name


def test_muon_gets_the_layers_and_adamw_the_tables(model):
    optimizer = MuonWithAdamW(model, muon_learning_rate=0.02, learning_rate=1e-3)
    names = {id(p): name for name, p in model.named_parameters()}
    matrices = {names[id(p)] for group in optimizer._muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in optimizer._adamw.param_groups for p in group["params"]}
    assert matrices == {n for n in names.values() if n.endswith("_proj.weight")}
    assert {"model.plan_slots.weight", "model.embed_tokens.weight", "lm_head.weight"} <= rest
    assert matrices | rest == set(names.values()) and not matrices & rest


def test_generation_in_training_mode_under_checkpointing(model, tokenizer, records):
    """Checkpointed layers keep nothing, so it goes without a cache, and writes the same."""
    row = _row(records[0], tokenizer)
    options = {"inputs": row["input_ids"][:, :60], "max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False}
    expected = model.generate(**options)
    cache = model(input_ids=options["inputs"]).past_key_values
    model.activation_checkpointing_enable()
    assert torch.equal(model.train().generate(**options), expected)
    assert model.generation_config.use_cache is not False
    with pytest.raises(ValueError, match="gradient checkpointing.*model.eval"):
        model(input_ids=options["inputs"][:, :1], past_key_values=cache)
    assert torch.equal(model.eval().generate(**options), expected)
