"""Adapters in training: their base, names other than "default", virtual tokens, resuming, the best one, refusals."""

import json

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import evaluation_loss, first_batch, save_model, tiny_qwen2, tiny_step_reasoner, tiny_trainer
from transformers import AutoModelForCausalLM

from hf_reason.cli.arguments import ScratchArguments
from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.cli.inputs.inference import load_for_inference
from hf_reason.cli.inputs.models import load_model_and_tokenizer
from hf_reason.generation import generate_cot
from hf_reason.models.adapter_files import restore_adapters
from hf_reason.models.base_weights import base_fingerprint
from hf_reason.models.peft_adapters import AdapterError
from hf_reason.text.spans import THOUGHT
from hf_reason.trainers import (
    CoTSFTConfig,
    CoTSFTTrainer,
    DistillKLConfig,
    DistillKLTrainer,
    ReasonerLoRAConfig,
    ReasonerLoRATrainer,
)

_LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
_P_TUNING = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 3, "encoder_hidden_size": 16}
_WITH_BEST = {
    "save_strategy": "steps",
    "save_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "figure",
    "greater_is_better": True,
}


@pytest.fixture
def base(tmp_path, tokenizer):
    """Folder of a model and its tokenizer."""
    return save_model(tmp_path / "base", tiny_qwen2(tokenizer), tokenizer)


def _trainer(out, model, tokenizer, records, config=None, **settings):
    """A trainer whose first checkpoint is the best, if the settings ask for the best one."""
    options = {} if config is None else {"peft_config": config}
    figures = iter((2.0, 1.0, 0.0))
    validation = None
    if "eval_strategy" in settings:
        validation, options["generation_eval"] = records[8:12], lambda model: {"figure": next(figures)}
    return tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, out, model, tokenizer, records[:8], validation, options, **settings
    )


def _logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.arange(20, 40).unsqueeze(0)).logits


def _base(folder) -> str:
    return base_fingerprint(AutoModelForCausalLM.from_pretrained(folder))["hash"]


@pytest.mark.parametrize(
    "config", [{"init_lora_weights": "pissa"}, pytest.param({"bias": "all"}, marks=pytest.mark.slow)]
)
def test_the_hash_is_that_of_the_base_before_its_adapter_changed_it(config, base, tmp_path, tokenizer, records):
    trainer = _trainer(tmp_path / "out", base, tokenizer, records, LoraConfig(**_LORA, **config))
    trainer.train()
    trainer.save_model()
    assert json.loads((tmp_path / "out" / "base_model.json").read_text())["hash"] == _base(base)
    card = (tmp_path / "out" / "README.md").read_text()  # PEFT's, which is pushed with a checkpoint
    assert str(tmp_path) not in card and "base_model: base" in card
    loaded, _ = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    assert torch.allclose(_logits(loaded), _logits(trainer.model), atol=1e-5)


def test_an_adapter_without_a_spare_pad_loads_everywhere_and_learns_to_stop(base, tmp_path, tokenizer, records):
    """GPT-2's shape: no pad, no reserved token, no spare row. The EOS pads, and no label of it is lost."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    pad = tokenizer.pad_token
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] != pad]
    content["model"]["vocab"]["never"] = content["model"]["vocab"].pop(pad)
    bare = type(tokenizer)(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(content)))
    bare.eos_token, bare.chat_template = tokenizer.eos_token, tokenizer.chat_template
    trainer = _trainer(tmp_path / "out", base, bare, records, LoraConfig(**_LORA))
    assert bare.pad_token == bare.eos_token
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    lengths = batch["attention_mask"].sum(dim=1)
    assert len(set(lengths.tolist())) > 1
    assert all(row[length - 1] == bare.eos_token_id for row, length in zip(batch["labels"], lengths, strict=True))
    trainer.train()
    trainer.save_model()
    plain = AutoModelForCausalLM.from_pretrained(base)
    for model in (
        AutoModelForCausalLM.from_pretrained(tmp_path / "out"),
        PeftModel.from_pretrained(plain, tmp_path / "out"),
    ):
        assert torch.allclose(_logits(model), _logits(trainer.model), atol=1e-5)
    model, loaded = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    prompts = records[:3]
    together = generate_cot(model, loaded, prompts, max_thought_tokens=8, max_answer_tokens=4)
    alone = [generate_cot(model, loaded, [one], max_thought_tokens=8, max_answer_tokens=4)[0] for one in prompts]
    assert [(one.thought, one.answer) for one in together] == [(one.thought, one.answer) for one in alone]


def test_virtual_tokens_weighted_resumed_and_best(base, tmp_path, tokenizer, records):
    """P-tuning: PEFT saves what its encoder made, and not the encoder that is trained."""
    make = lambda: _trainer(  # noqa: E731
        tmp_path / "out",
        base,
        tokenizer,
        records,
        peft.PromptEncoderConfig(**_P_TUNING),
        thought_weight=0.5,
        **_WITH_BEST,
    )
    whole = make()
    whole.train()
    whole.save_model()
    assert torch.equal(
        _logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "out")),
        _logits(whole.model),
    )
    resumed = make()
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    first, second = ([row["loss"] for row in run.state.log_history if "loss" in row] for run in (whole, resumed))
    assert second == pytest.approx(first, abs=1e-4)
    assert torch.allclose(_logits(resumed.model), _logits(whole.model), atol=1e-5)


@pytest.mark.slow
def test_virtual_tokens_count_nothing_in_a_weighted_loss(base, tmp_path, tokenizer, records):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    losses = []
    for weights in ({}, {"thought_weight": 0.5, "answer_weight": 0.5}):
        trainer = _trainer(tmp_path / "out", base, tokenizer, records, config, max_steps=1, seed=3, **weights)
        trainer.train()
        losses.append(next(row["loss"] for row in trainer.state.log_history if "loss" in row))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"packing": True}, "packing cannot place"), ({"mixup_alpha": 0.2}, "mixup_alpha cannot place")],
)
def test_virtual_tokens_where_they_have_no_place(settings, message, base, tmp_path, tokenizer, records):
    with pytest.raises(ValueError, match=f"P_TUNING puts virtual tokens before each row, which {message}"):
        _trainer(tmp_path / "out", base, tokenizer, records, peft.PromptEncoderConfig(**_P_TUNING), **settings)


@pytest.mark.slow
def test_adalora_moves_its_ranks_and_comes_back(base, tmp_path, tokenizer, records):
    def make():
        config = peft.AdaLoraConfig(
            **{**_LORA, "r": 8}, init_r=4, target_r=2, total_step=6, tinit=1, tfinal=2, deltaT=1
        )
        return _trainer(
            tmp_path / "out", base, tokenizer, records, config, max_steps=6, save_steps=3, save_strategy="steps"
        )

    whole = make()
    whole.train()
    whole.save_model()
    ranks = [int((value != 0).sum()) for name, value in whole.model.named_parameters() if "lora_E" in name]
    assert len(ranks) == 4 and sum(ranks) < 4 * 4
    loaded, _ = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    assert torch.allclose(_logits(loaded), _logits(whole.model), atol=1e-5)
    resumed = make()
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert resumed.state.global_step == 6  # the importance of ranks is averaged anew, so that others may be left
    assert restore_adapters(tmp_path / "out" / "checkpoint-6", resumed.model)
    resumed.save_model()
    loaded, _ = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    assert torch.allclose(_logits(loaded), _logits(resumed.model), atol=1e-5)


def test_an_adapter_of_another_name_is_like_any_other(base, tmp_path, tokenizer, records):
    def make(**settings):
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**_LORA), adapter_name="law")
        return _trainer(tmp_path / "out", model, tokenizer, records, **settings)

    trainer = make(**_WITH_BEST)
    trainer.train()
    best = tmp_path / "out" / "checkpoint-1"
    assert trainer.state.best_model_checkpoint == str(best)
    kept = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), best / "law")
    assert torch.allclose(_logits(kept), _logits(trainer.model), atol=1e-5)
    trainer.save_model()
    assert json.loads((tmp_path / "out" / "law" / "base_model.json").read_text())["hash"] == _base(base)
    loaded, _ = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    assert torch.allclose(_logits(loaded), _logits(trainer.model), atol=1e-5)
    tiny_qwen2(tokenizer, seed=1).save_pretrained(base)
    with pytest.raises(AdapterError, match="belongs to another base model"):
        load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True))
    with pytest.raises(AdapterError, match="belongs to another base model"):
        make(max_steps=3).train(resume_from_checkpoint=str(best))


@pytest.mark.slow
def test_several_adapters_come_back_together(base, tmp_path, tokenizer, records):
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**_LORA))
    model.add_adapter("law", LoraConfig(**_LORA, init_lora_weights=False))
    trainer = _trainer(tmp_path / "out", model, tokenizer, records, **_WITH_BEST)
    trainer.train()
    best = tmp_path / "out" / "checkpoint-1"
    assert trainer.state.best_model_checkpoint == str(best)
    for name, place in (("default", best), ("law", best / "law")):
        trainer.model.set_adapter(name)
        kept = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), place)
        assert torch.allclose(_logits(kept), _logits(trainer.model), atol=1e-5)
        assert json.loads((place / "base_model.json").read_text())["hash"] == _base(base)


def test_an_adapter_is_no_model_to_fine_tune(base, tmp_path, tokenizer):
    from trl import ModelConfig

    get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**_LORA)).save_pretrained(tmp_path / "lora")
    tokenizer.save_pretrained(tmp_path / "lora")
    args = CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, bf16=False)
    with pytest.raises(
        ValueError, match="is an adapter, which has no weights of its own .* continual --adapter continue"
    ):
        load_model_and_tokenizer(ModelConfig(str(tmp_path / "lora")), ScratchArguments(), args, ())
    injected = AutoModelForCausalLM.from_pretrained(tmp_path / "lora")
    with pytest.raises(ValueError, match=r"PeftModel.from_pretrained\(base, folder, is_trainable=True\)"):
        _trainer(tmp_path / "out", injected, tokenizer, [{"prompt": "a", "completion": "b"}] * 8)


@pytest.mark.slow
def test_an_adapter_that_transformers_put_on_is_trained_and_saved(base, tmp_path, tokenizer, records):
    model = AutoModelForCausalLM.from_pretrained(base)
    model.add_adapter(LoraConfig(**_LORA))
    trainer = _trainer(tmp_path / "out", model, tokenizer, records)
    trainer.train()
    trainer.save_model()
    assert json.loads((tmp_path / "out" / "base_model.json").read_text())["hash"] == _base(base)
    loaded, _ = load_for_inference(str(tmp_path / "out"), InferenceArguments(use_cpu=True, dtype="float32"))
    assert torch.allclose(_logits(loaded), _logits(trainer.model), atol=1e-5)
    assert not torch.equal(_logits(loaded), _logits(AutoModelForCausalLM.from_pretrained(base)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(**_LORA, bias="all"), "leave bias='all' out"),
        (LoraConfig(**_LORA, init_lora_weights="olora"), "leave init_lora_weights='olora' out"),
        (LoraConfig(**_LORA, modules_to_save=["lm_head"]), r"leave modules_to_save=\['lm_head'\] out"),
        (LoraConfig(**_LORA, trainable_token_indices=[3]), r"leave trainable_token_indices=\[3\] out"),
        (peft.PromptEncoderConfig(**_P_TUNING), "Prompt-learning adapters shift the positions"),
    ],
)
def test_a_teacher_that_would_not_be_the_base_is_refused(config, message, base, tmp_path, tokenizer, records):
    with pytest.raises(ValueError, match=message):
        tiny_trainer(
            *(DistillKLTrainer, DistillKLConfig, tmp_path / "out", base, tokenizer, records[:8]),
            trainer_options={"peft_config": config, "teacher_model": "self"},
        )


@pytest.mark.parametrize(
    "config",
    [peft.IA3Config(task_type="CAUSAL_LM"), pytest.param(LoraConfig(**_LORA, use_dora=True), marks=pytest.mark.slow)],
)
def test_a_teacher_that_is_the_base_starts_at_no_divergence(config, base, tmp_path, tokenizer, records):
    trainer = tiny_trainer(
        *(DistillKLTrainer, DistillKLConfig, tmp_path / "out", base, tokenizer, records[:8]),
        trainer_options={"peft_config": config, "teacher_model": "self"},
        kl_weight=1.0,
        max_steps=1,
    )
    trainer.train()
    assert next(row["kl"] for row in trainer.state.log_history if "kl" in row) == pytest.approx(0, abs=1e-5)


def test_tokens_of_a_tied_head_are_refused(tmp_path, tokenizer, records):
    config = LoraConfig(**_LORA, trainable_token_indices=[30, 31])
    with pytest.raises(ValueError, match="trainable_token_indices puts an adapter on the LM head"):
        _trainer(tmp_path, tiny_qwen2(tokenizer, tie_word_embeddings=True), tokenizer, records, config)


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("weights", [{}, {"thought_weight": 0.5}])
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(**_LORA, modules_to_save=["lm_head"]),
        LoraConfig(**_LORA, modules_to_save=["embed_tokens"], ensure_weight_tying=True),
        LoraConfig(**{**_LORA, "target_modules": ["embed_tokens"]}),
        LoraConfig(**_LORA, bias="all"),
        peft.LNTuningConfig(task_type="CAUSAL_LM", target_modules=["norm", "input_layernorm"]),
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
)
def test_the_loss_is_that_of_the_adapted_model(config, weights, tied, tmp_path, tokenizer, records):
    model = tiny_qwen2(tokenizer, tie_word_embeddings=tied)
    trainer = _trainer(tmp_path, model, tokenizer, records, config, **weights)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    batch = first_batch(trainer)
    labels = batch["labels"][:, 1:].flatten()
    with torch.no_grad():
        logits = trainer.model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        logits = logits[:, -batch["labels"].shape[1] : -1].flatten(0, 1)
        nll = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="none")
    weight = (labels != -100).float()
    if weights:
        weight = torch.where(batch["segment_ids"][:, 1:].flatten() == THOUGHT, 0.5 * weight, weight)
    assert evaluation_loss(trainer, batch) == pytest.approx(float((nll * weight).sum() / weight.sum()), abs=1e-4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(**_LORA, inference_mode=True), "inference_mode=True, as every saved adapter_config.json has"),
        (
            peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1, task_type="CAUSAL_LM"),
            "replaces the model's forward",
        ),
    ],
)
def test_an_adapter_that_would_not_be_trained_is_refused(config, message, tmp_path, tokenizer, records):
    from tiny import tiny_model

    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, tiny_model(tokenizer, "llama"), tokenizer, records, config)


def test_virtual_tokens_on_models_of_our_own(tmp_path, tokenizer, records):
    """Refused before the first step on a StepReasoner, and as a prefix on a LoAR; else they are prompt to a LoAR."""
    from hf_reason.models.loar import LoARConfig, apply_loar

    prefix = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    prompt = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    for config in (prefix, prompt):
        with pytest.raises(ValueError, match="StepReasoner reads ids, and .*_TUNING adds virtual tokens"):
            _trainer(tmp_path, tiny_step_reasoner(tokenizer), tokenizer, records, config)
    routed = tiny_qwen2(tokenizer, num_key_value_heads=2)
    apply_loar(routed, LoARConfig(budget=0.5, anneal_ratio=0.0))
    with pytest.raises(ValueError, match="PREFIX_TUNING fills a cache of its own"):
        _trainer(tmp_path, routed, tokenizer, records, prefix)
    trainer = _trainer(tmp_path, routed, tokenizer, records, prompt)
    trainer.train()
    batch = first_batch(trainer)
    with torch.no_grad():
        plain = trainer.model.eval()(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss
    assert evaluation_loss(trainer, batch) == pytest.approx(plain.item(), abs=1e-4)


def test_a_resume_with_another_adapter_is_refused(base, tmp_path, tokenizer, records):
    """Weights that the checkpoint lacks would stay as they are, and another alpha is another model."""

    def make(config, out="lora"):
        return _trainer(
            tmp_path / out, base, tokenizer, records, config, max_steps=1, save_strategy="steps", save_steps=1
        )

    lora, whole = str(tmp_path / "lora" / "checkpoint-1"), str(tmp_path / "whole" / "checkpoint-1")
    make(LoraConfig(**_LORA)).train()
    make(None, "whole").train()
    for config, place, message in (
        ({"lora_alpha": 64}, lora, "lora_alpha 8 -> 64"),
        ({"target_modules": ["q_proj", "k_proj"]}, lora, "target_modules .*v_proj.* -> .*k_proj"),
        ({"r": 8}, lora, "r 4 -> 8"),
        ({}, whole, "a checkpoint without the adapter 'default'"),
    ):
        with pytest.raises(AdapterError, match=message):
            make(LoraConfig(**{**_LORA, **config})).train(resume_from_checkpoint=place)
    with pytest.raises(AdapterError, match="a checkpoint of an adapter, and this run trains none"):
        make(None).train(resume_from_checkpoint=lora)
    make(LoraConfig(**_LORA, lora_dropout=0.1)).train(resume_from_checkpoint=lora)


def _with_other_stacks(tokenizer):
    """A model with a vision tower and draft layers, whose layers have the same number and names as the text's."""
    from transformers import AutoModelForCausalLM as Auto

    model = tiny_qwen2(tokenizer)
    tower, draft = (Auto.from_config(model.config).model for _ in range(2))
    model.vision_tower, model.mtp = torch.nn.Module(), torch.nn.Module()
    model.vision_tower.layers, model.mtp.layers = tower.layers, draft.layers
    return model


@pytest.mark.parametrize(("layers", "excluded"), [("auto", None), ("1", ["v_proj"]), ("1", ".*v_proj")])
def test_lora_stays_in_the_chosen_stack(layers, excluded, tmp_path, tokenizer, records):
    config = LoraConfig(**{**_LORA, "target_modules": ["q_proj", "v_proj"], "exclude_modules": excluded})
    trainer = tiny_trainer(
        *(ReasonerLoRATrainer, ReasonerLoRAConfig, tmp_path, _with_other_stacks(tokenizer), tokenizer, records[:8]),
        trainer_options={"peft_config": config},
        reasoner_layers=layers,
        ranking_records=4,
        reasoner_ratio=0.5,
    )
    names = {name for name, value in trainer.model.named_parameters() if value.requires_grad}
    assert names and all(name.startswith("base_model.model.model.layers.") for name in names)
    assert any("v_proj" in name for name in names) == (excluded is None)


@pytest.mark.parametrize(
    ("targets", "message"),
    [({"target_modules": ["gate_proj", "up_proj"]}, "weights outside the chosen layers, such as .*experts"),
     ({"target_modules": [], "target_parameters": ["experts.down_proj"]}, "target_parameters=")],
)  # fmt: skip
def test_experts_outside_the_layers_are_refused(targets, message, tmp_path, tokenizer, records):
    from tiny import tiny_model

    config = LoraConfig(r=2, task_type="CAUSAL_LM", **targets)
    with pytest.raises(ValueError, match=message):
        tiny_trainer(
            *(ReasonerLoRATrainer, ReasonerLoRAConfig, tmp_path, tiny_model(tokenizer, "qwen3_moe"), tokenizer),
            records[:8],
            trainer_options={"peft_config": config},
            reasoner_layers="1",
        )
