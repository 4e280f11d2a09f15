"""CoTSFTTrainer and LoAR: the routers learn, accumulation, LoRA beside it, resume, tasks, distillation, refusals."""

import copy
from functools import partial

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from tiny import assert_accumulation_changes_nothing, first_batch, logged, tiny_qwen2, tiny_trainer, train_and_resume
from transformers import AutoModelForCausalLM

from hf_reason import LoAR, LoARConfig, apply_loar
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.evaluation import evaluate_model
from hf_reason.generation import generate_cot
from hf_reason.models.loar.model import loar_of
from hf_reason.teachers.loading import load_teacher_model
from hf_reason.text import encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@pytest.fixture
def model(tokenizer):
    """A Qwen2 of two layers with four key/value groups."""
    return tiny_qwen2(tokenizer, num_attention_heads=4, num_key_value_heads=4)


def _trainer(tmp_path, model, tokenizer, rows, peft_config=None, loar=None, **options):
    routed = copy.deepcopy(model)
    torch.manual_seed(3)
    apply_loar(routed, LoARConfig(**{"budget": 0.5, "balance_weight": 0.1, **(loar or {})}).set_prompt_end(tokenizer))
    adapter, options = {"peft_config": peft_config}, {"max_steps": 4, **options}
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, routed, tokenizer, rows, None, adapter, **options)


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}, {"label_smoothing_factor": 0.1}])
def test_every_router_learns_and_the_budget_falls(tmp_path, model, tokenizer, records, options):
    trainer = _trainer(tmp_path, model, tokenizer, records, max_steps=8, loar={"anneal_ratio": 0.5}, **options)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    assert all(not torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    working = [row["heads_working"] for row in trainer.state.log_history if "heads_working" in row]
    assert working[0] == 1.0 and working[-1] == 0.5 and working == sorted(working, reverse=True)
    usage = trainer.routing.loar.routers.usage
    assert (usage[:, 0] > 0.7).all() and not torch.allclose(usage, torch.full_like(usage, 0.5))


def test_one_batch_of_eight_is_eight_of_one(tmp_path, model, tokenizer, records):
    options = {"learning_rate": 1e-3, "loar": {"anneal_ratio": 0.0}}
    assert_accumulation_changes_nothing(partial(_trainer, tmp_path, model, tokenizer, records, **options))


def test_loss_is_that_of_the_plain_gated_model(tmp_path, model, tokenizer, records):
    """The trainer's prompts are those of the labels."""
    trainer = _trainer(tmp_path, model, tokenizer, records, loar={"anneal_ratio": 0.0})
    batch = first_batch(trainer)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    expected = trainer.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"], use_cache=False
    ).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear"])
def test_a_lora_beside_it_trains_saves_and_loads(tmp_path, model, tokenizer, records, targets):
    lora = LoraConfig(**LORA | {"target_modules": targets})
    model.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    trainer = _trainer(tmp_path / "out", base, tokenizer, records, lora, learning_rate=0.05)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.train()
    trainer.save_model()
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]) != ("lora_" in name or "loar." in name), name
    ids = torch.tensor([trainer.train_dataset[0]["input_ids"]])
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(input_ids=ids).logits
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
        assert not torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-3)
        LoAR.from_pretrained(loaded, tmp_path / "out")
        assert torch.allclose(loaded(input_ids=ids).logits, expected, atol=1e-5)
        # decoding with a LoRA on the projections, which are then not cut
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
        assert torch.equal(loaded.generate(ids, **options), trainer.model.generate(input_ids=ids, **options))
        with pytest.raises(ValueError, match="has a LoAR already"):
            apply_loar(trainer.model, LoARConfig())  # PEFT's wrapper or what is inside: the same
        merged = trainer.model.merge_and_unload()
        assert torch.allclose(merged(input_ids=ids).logits, expected, atol=1e-5)
        cache = merged(input_ids=ids[:, :5], use_cache=True).past_key_values
        assert cache.layers[0].projections is not None  # cut again


@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_taken_off_after_a_training_and_put_on_again(tmp_path, model, tokenizer, records, options):
    trainer = _trainer(tmp_path, model, tokenizer, records, **options)
    trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model).eval()
    trained.save_pretrained(tmp_path)
    trained.loar.save_pretrained(tmp_path)
    ids = torch.tensor([trainer.train_dataset[0]["input_ids"]])
    with torch.no_grad():
        routed = trained(ids).logits
        plain = trained.loar.unload()(ids).logits
        torch.testing.assert_close(
            plain,
            AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits.to(plain.dtype),
            atol=1e-2 if options else 1e-5,
            rtol=1e-2,
        )
        for _ in range(2):
            LoAR.from_pretrained(trained, tmp_path)
            torch.testing.assert_close(trained(ids).logits, routed)
            trained.loar.unload()
        assert torch.equal(trained(ids).logits, plain)


@pytest.mark.parametrize("lora", [None, LORA])
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, model, tokenizer, records, lora):
    options = {"save_strategy": "steps", "save_steps": 2, "loar": {"task_names": ["math", "finance"]}}
    config = None if lora is None else LoraConfig(**lora)
    whole, resumed = train_and_resume(partial(_trainer, tmp_path, model, tokenizer, records, config, **options), at=2)
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)
    for left, right in zip(
        whole.routing.loar.state_dict().values(), resumed.routing.loar.state_dict().values(), strict=True
    ):
        assert torch.allclose(left, right, atol=1e-6)


def test_tasks_come_from_the_records_in_training_and_evaluation(tmp_path, model, tokenizer):
    rows = [
        make_record(row["context"], row["steps"], row["answer"], domain=domain)
        for domain in ("math", "finance", "legal")
        for row in generate_word_problems(4, seed=1, domain="finance" if domain == "finance" else "math")
    ]
    loar = {"task_names": ["finance", "math"], "task_dropout": 0.0, "anneal_ratio": 0.0}
    trainer = _trainer(tmp_path, model, tokenizer, rows, loar=loar)
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in (0, 4, 8)]))
    assert batch["loar_tasks"].tolist() == [1, 0, -1]
    trainer.train()
    assert trainer.routing.loar.routers.tasks.weight.abs().sum() > 0
    seen = []
    route = trainer.routing.loar._task_of_rows

    def record(tasks, count, device):
        seen.append(route(tasks, count, device))
        return seen[-1]

    trainer.routing.loar._task_of_rows = record
    # a piece of a split chain: its first steps are no targets, and no prompt either
    batch = {name: batch[name] for name in ("input_ids", "labels", "segment_ids", "attention_mask")}
    batch["labels"] = batch["labels"].masked_fill(batch["segment_ids"] != 2, -100)
    prompt = trainer._prepare_inputs(batch)["loar_prompt_mask"]
    assert torch.equal(prompt.sum(dim=1), (batch["segment_ids"] != 0).float().argmax(dim=1))
    evaluate_model(trainer.model, tokenizer, rows[:8:4], max_completion_length=2, progress=False)
    assert sorted(seen[0].tolist()) == [0, 1]


def test_the_best_models_routers_come_back(tmp_path, model, tokenizer, records):
    """The best is, here, the one with the largest loss: an early one."""
    routed = _trainer(tmp_path, model, tokenizer, records).model
    options = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "greater_is_better": True}
    trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, routed, tokenizer, records, records[:4], **options)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best and not best.endswith("-6")
    saved = load_file(f"{best}/loar.safetensors")
    for name, value in trainer.routing.loar.state_dict().items():
        assert torch.equal(value, saved[name]), name


def test_chains_in_batches_and_with_votes(model, tokenizer, records):
    torch.manual_seed(0)
    apply_loar(model.eval(), LoARConfig(budget=0.5, sliding_window=16).set_prompt_end(tokenizer))
    options = {"max_thought_tokens": 12, "max_answer_tokens": 6}
    together = generate_cot(model, tokenizer, records[:3], batch_size=3, **options)
    alone = [generate_cot(model, tokenizer, record, **options)[0] for record in records[:3]]
    assert [one.thought for one in together] == [one.thought for one in alone]
    assert [one.answer for one in together] == [one.answer for one in alone]
    (voted,) = generate_cot(model, tokenizer, records[0], num_samples=3, vote=True, temperature=0.7, **options)
    assert voted.answer is not None


def test_a_routed_student_is_distilled(tmp_path, model, tokenizer, records):
    student = copy.deepcopy(model)
    apply_loar(student, LoARConfig(budget=0.5))
    teacher = {"teacher_model": copy.deepcopy(model), "teacher_tokenizer": tokenizer}
    trainer = tiny_trainer(
        DistillKLTrainer, DistillKLConfig, tmp_path, student, tokenizer, records, None, teacher, max_steps=4
    )
    before = loar_of(trainer.model).routers.routers[0].weight.clone()
    trainer.train()
    assert not torch.equal(before, loar_of(trainer.model).routers.routers[0].weight)


def test_a_teacher_that_was_saved_with_a_loar_is_routed(tmp_path, model, tokenizer, records):
    ids = torch.tensor([encode(records[0], tokenizer)["input_ids"]])
    apply_loar(model, LoARConfig(budget=0.25).set_prompt_end(tokenizer))
    model.save_pretrained(tmp_path)
    model.loar.save_pretrained(tmp_path)
    teacher = load_teacher_model(str(tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(teacher(ids).logits, model.eval()(ids).logits)
        assert (teacher.loar.unload()(ids).logits - model(ids).logits).abs().max() > 1e-4
    # nor does a routed model read packed rows, trained or not
    with pytest.raises(ValueError, match="packing=False"):
        model(ids, position_ids=torch.arange(ids.shape[1])[None] % 9)


@pytest.mark.parametrize(
    ("options", "message"), [({"packing": True}, "packing=False"), ({"mixup_alpha": 0.2}, "mixup")]
)
def test_what_it_cannot_do_is_refused(tmp_path, model, tokenizer, records, options, message):
    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, model, tokenizer, records, **options)
