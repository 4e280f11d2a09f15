"""Many model types, tiny: losses are the plain formulas, packing is exact or refused, what is trained can be used."""

import copy
from functools import partial

import pytest
import torch
from peft import PromptTuningConfig
from tiny import assert_accumulation_changes_nothing, first_batch, logged, tiny_model, tiny_settings, tiny_trainer
from transformers import AutoModelForCausalLM

from hf_reason.generation import generate_cot
from hf_reason.losses import token_weights
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer
from hf_reason.trainers.loss_terms.terms import LossTerms
from hf_reason.trainers.packing import PackingCheck

EXACT = [
    "qwen2",
    "qwen3",
    "llama",
    "mistral",
    "gemma2",
    "gemma3_text",
    "phi3",
    "granite",
    "olmo2",
    "qwen2_moe",
    "qwen3_moe",
    "mixtral",
    "gpt_neox",
    "gpt2",
    "phi",
    "cohere",
    "starcoder2",
    "gpt_neo",
]
MIXING = ["opt", "bloom", "falcon", "falcon_alibi", "mpt", "mamba", "mamba2", "jamba", "rwkv", "falcon_mamba", "xglm"]
# Softcaps, a scaled head, a window, experts, biases, learned positions, a state: what the others combine.
FAST = ("gemma2", "granite", "mistral", "qwen3_moe", "phi", "gpt2", "falcon", "mamba")
WEIGHTING = {"thought_weight": 0.3, "answer_weight": 2.0, "step_weighting": "step"}
SMOOTHING = 0.2


def _fast(model_types):
    """These types, of which all but `FAST` are slow tests."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in model_types]


@pytest.fixture(scope="module")
def rows(records):
    """Few and short: the types are many."""
    return sorted(records, key=lambda record: len("".join([record["context"], *record["steps"]])))[:6]


def _trainer(tmp_path, model, tokenizer, rows, config=CoTSFTConfig, trainer=CoTSFTTrainer, **settings):
    return tiny_trainer(trainer, config, tmp_path, model, tokenizer, rows, rows[:3], **settings)


def _sharp(model):
    """The model with larger weights, so that attention and routing differ from a mean; norms stay."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    return model


def _logits(model, batch):
    names = ("input_ids", "attention_mask", "position_ids")
    return model.eval()(**{name: batch[name] for name in names if name in batch}, use_cache=False).logits


def _plain_losses(model, batch):
    """Plain, weighted and smoothed loss, from the model's own logits; and transformers' own loss."""
    logits = _logits(model, batch)
    labels = batch["labels"]
    theirs = model.loss_function(logits, labels, vocab_size=logits.shape[-1])
    log_p = logits[:, :-1].double().log_softmax(-1)
    target = labels[:, 1:] != -100
    nll = -log_p.gather(-1, labels[:, 1:].clamp(min=0).unsqueeze(-1)).squeeze(-1)
    weights = token_weights(labels, batch["segment_ids"], batch["step_ids"], **WEIGHTING)[:, 1:].double()
    smoothed = (1 - SMOOTHING) * nll + SMOOTHING * -log_p.mean(-1)
    plain = (nll * target).sum() / target.sum()
    return theirs, plain, (weights * nll).sum() / weights.sum(), (smoothed * target).sum() / target.sum()


@pytest.mark.parametrize("model_type", _fast([*EXACT, *MIXING]))
def test_losses_are_the_plain_formulas(tmp_path, tokenizer, rows, model_type):
    """Softcapped, scaled and biased heads, experts, states; gradients of the smoothed and weighted loss as well."""
    model = _sharp(tiny_model(tokenizer, model_type))
    trainer = _trainer(tmp_path, model, tokenizer, rows[:3], answer_weight=2.0, router_aux_loss_coef=0.0)
    batch = first_batch(trainer, 3)
    theirs, plain, weighted, smoothed = _plain_losses(trainer.model, batch)
    assert theirs.item() == pytest.approx(plain.item(), abs=1e-5)

    def ours(**settings):
        args = copy.copy(trainer.args)
        vars(args).update({"answer_weight": 1.0, **settings})
        trainer.loss_terms = LossTerms(args, None)
        with torch.no_grad():
            return trainer.compute_loss(trainer.model.eval(), dict(batch)).item()

    assert ours() == pytest.approx(theirs.item(), abs=1e-5)
    assert ours(**WEIGHTING) == pytest.approx(weighted.item(), abs=1e-5)
    assert ours(label_smoothing_factor=SMOOTHING) == pytest.approx(smoothed.item(), abs=1e-5)


def _packed_and_padded(tmp_path, model, tokenizer, rows, **settings):
    """Losses of the same examples in one padded batch, and in packed rows."""
    found = []
    for packing in (False, True):
        trainer = _trainer(tmp_path, model, tokenizer, rows, packing=packing, router_aux_loss_coef=0.0, **settings)
        with torch.no_grad():
            found.append(trainer.compute_loss(trainer.model.eval(), first_batch(trainer, None)).item())
    return found


@pytest.mark.parametrize("model_type", _fast(EXACT))
def test_packing_is_exact(tmp_path, tokenizer, rows, model_type):
    padded, packed = _packed_and_padded(tmp_path, _sharp(tiny_model(tokenizer, model_type)), tokenizer, rows)
    assert packed == pytest.approx(padded, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [WEIGHTING, {"pad_to_multiple_of": 64}, {"label_smoothing_factor": SMOOTHING}])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", [name for name in EXACT if name not in ("gemma2", "gpt_neo")])
def test_packing_is_exact_with_every_attention(tmp_path, tokenizer, rows, model_type, attention, settings):
    model = _sharp(tiny_model(tokenizer, model_type, attention=attention))
    padded, packed = _packed_and_padded(tmp_path, model, tokenizer, rows, **settings)
    assert packed == pytest.approx(padded, abs=1e-5)


@pytest.mark.parametrize("model_type", MIXING)
def test_packing_is_refused_where_examples_would_mix(tmp_path, tokenizer, rows, model_type):
    model = tiny_model(tokenizer, model_type)
    with pytest.raises(ValueError, match=rf"{model.config.model_type}\) does not keep packed examples.*packing=False"):
        _trainer(tmp_path, model, tokenizer, rows, packing=True)


@pytest.mark.parametrize("model_type", ["jamba", *_fast(["llama", "bloom"])])
def test_padding_free_half_precision_and_teachers_are_measured_too(tmp_path, tokenizer, rows, model_type):
    """The effect of a neighbour may be below the rounding of bfloat16 at the start: the gradient shows it."""
    make = partial(tiny_model, tokenizer)
    makes = [
        partial(_trainer, model=make(model_type), padding_free=True, max_length=None),
        partial(_trainer, model=make(model_type).bfloat16(), packing=True),
        partial(
            _trainer,
            model=make("qwen2"),
            packing=True,
            config=DistillKLConfig,
            trainer=DistillKLTrainer,
            trainer_options={"teacher_model": make(model_type), "teacher_tokenizer": tokenizer},
        ),
    ]
    for build in makes:
        if model_type == "llama":
            build(tmp_path, tokenizer=tokenizer, rows=rows)
            continue
        with pytest.raises(ValueError, match="does not keep packed examples apart"):
            build(tmp_path, tokenizer=tokenizer, rows=rows)


def test_packing_is_checked_at_the_first_batch_if_the_model_cannot_run_before(tmp_path, tokenizer, rows, monkeypatch):
    """Sharded weights (FSDP, ZeRO-3) are together only inside the wrapped model."""
    monkeypatch.setattr(PackingCheck, "try_now", lambda *_: None)
    with pytest.raises(ValueError, match="does not keep packed examples apart"):
        _trainer(tmp_path, tiny_model(tokenizer, "opt"), tokenizer, rows, packing=True).train()
    trainer = _trainer(tmp_path, tiny_model(tokenizer, "llama"), tokenizer, rows, packing=True)
    trainer.train()
    assert trainer.model.training and not trainer._packing.is_due


def test_prompt_tuning_is_not_packed(tmp_path, tokenizer, rows):
    """PEFT ignores the positions that tell examples apart."""
    tuning = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match="packing|packed"):
        _trainer(
            tmp_path,
            tiny_model(tokenizer, "llama"),
            tokenizer,
            rows,
            packing=True,
            trainer_options={"peft_config": tuning},
        )


def test_evaluation_is_packed_with_the_training_only(tmp_path, tokenizer, rows):
    """Packed rows in padded batches read each other: 6.0349 instead of 6.0352 without a word."""
    with pytest.raises(ValueError, match="eval_packing=True needs packing=True"):
        CoTSFTConfig(**tiny_settings(tmp_path, eval_packing=True))
    losses = [
        _trainer(tmp_path, tiny_model(tokenizer, "llama"), tokenizer, rows, **settings).evaluate()["eval_loss"]
        for settings in ({}, {"packing": True}, {"packing": True, "eval_packing": False})
    ]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [*EXACT, *MIXING])
def test_accumulation_changes_nothing(tmp_path, tokenizer, rows, model_type):
    assert_accumulation_changes_nothing(
        partial(
            tiny_trainer,
            CoTSFTTrainer,
            CoTSFTConfig,
            tmp_path,
            tiny_model(tokenizer, model_type),
            tokenizer,
            [*rows, *rows[:2]],
            router_aux_loss_coef=0.0,
            **WEIGHTING,
        )
    )


def _train_save_use(tmp_path, tokenizer, rows, model_type, **settings):
    """A step of training, the saved model, and a generated chain."""
    trainer = _trainer(tmp_path, tiny_model(tokenizer, model_type), tokenizer, rows, max_steps=1, **settings)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    assert any(not torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert 5 < logged(trainer)[0] < 7
    trainer.save_model()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    batch = first_batch(trainer, 3)
    assert torch.allclose(_logits(loaded, batch), _logits(trainer.model, batch), atol=1e-5)
    for model in (loaded, trainer.model):  # several rows: TRL turns a mixture's router logits on, and its mask fails
        completions = generate_cot(model, tokenizer, rows[:3], max_thought_tokens=8, max_answer_tokens=4)
        assert len(completions) == 3
    assert not getattr(loaded.config, "output_router_logits", False)


@pytest.mark.parametrize("model_type", ["gemma2", "qwen3_moe", pytest.param("mixtral", marks=pytest.mark.slow)])
def test_what_is_trained_can_be_saved_and_used(tmp_path, tokenizer, rows, model_type):
    _train_save_use(tmp_path, tokenizer, rows, model_type, **WEIGHTING, label_smoothing_factor=SMOOTHING)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [*EXACT, *MIXING])
def test_every_type_can_be_saved_and_used(tmp_path, tokenizer, rows, model_type):
    _train_save_use(tmp_path, tokenizer, rows, model_type)
