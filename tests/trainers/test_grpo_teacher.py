"""`teacher_kl_weight`: the divergence from a teacher beside the rewards; parity, accumulation, resume, refusals."""

import copy

import pytest
import torch
from peft import LoraConfig
from plain_formulas import divergence
from teacher_server import FakeServer
from test_step_grpo import NO_CHECK, PROBLEM, RIGHT, WRONG_FIRST, WRONG_LAST, make, right, writes
from tiny import logged, save_model, tiny_qwen2, tiny_step_reasoner

from hf_reason import LoARConfig, StepGRPOConfig, apply_loar
from hf_reason.teachers import TeacherError

TEXTS = (RIGHT, WRONG_FIRST, WRONG_LAST, NO_CHECK)
# prompts of two lengths, so that one of them is padded
ROWS = [PROBLEM, {**PROBLEM, "context": "另一题:3和4,再减2"}]


@pytest.fixture
def model(tokenizer):
    return tiny_qwen2(tokenizer)


@pytest.fixture
def teacher(tokenizer):
    """Another width, a head padded beyond the tokenizer; sharp enough to differ from the student."""
    model = tiny_qwen2(tokenizer, seed=1, vocab_size=len(tokenizer) + 7, hidden_size=24)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model.eval()


def taught(tmp_path, model, tokenizer, teacher, rows=ROWS, weight=0.7, trainer_options=None, **settings):
    options = {"teacher_model": teacher, "teacher_tokenizer": tokenizer, **(trainer_options or {})}
    settings = {"teacher_kl_weight": weight, **settings}
    return writes(make(tmp_path, model, tokenizer, rows, right, trainer_options=options, **settings), *TEXTS)


def batch_of(trainer):
    """A batch of both prompts, four completions each."""
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    return trainer._generate_and_score_completions([row for row in trainer.train_dataset for _ in range(4)])


def gradients(trainer, loss):
    trainer.model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in trainer.model.named_parameters() if value.grad is not None}


def plain_term(student, teacher, batch, ids, beta, temperature):
    """The mean divergence over the completions' tokens, row by row without padding, with all logits."""
    values = []
    for row in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
        tokens = torch.cat([prompt, completion])[None]
        both = [
            (m(tokens).logits[0, len(prompt) - 1 : -1, :ids].double() / temperature).log_softmax(-1)
            for m in (student, teacher)
        ]
        values.append(divergence(*both, beta))
    return torch.cat(values).mean()


@pytest.mark.parametrize(
    ("options", "beta", "temperature"),
    [
        ({}, 1.0, 1.0),
        ({"teacher_kl_beta": 0.0, "loss_type": "grpo", "temperature": 0.7}, 0.0, 0.7),
        ({"teacher_kl_beta": 0.3, "loss_type": "dr_grpo", "num_iterations": 2}, 0.3, 1.0),
    ],
)
def test_the_term_is_the_plain_formula(tmp_path, model, tokenizer, teacher, options, beta, temperature):
    trainer = taught(tmp_path, model, tokenizer, teacher, per_device_train_batch_size=8, **options)
    batch = batch_of(trainer)
    loss = trainer._compute_loss(trainer.model, batch)
    whole = gradients(trainer, loss)
    term, trainer.teacher = trainer.teacher, None
    without = trainer._compute_loss(trainer.model, batch)
    rest = gradients(trainer, without)
    plain = 0.7 * plain_term(trainer.model, teacher, batch, len(tokenizer), beta, temperature)
    own = gradients(trainer, plain)
    assert loss.item() == pytest.approx((without + plain).item(), abs=1e-5)
    for name, value in whole.items():
        assert torch.allclose(value, rest[name] + own[name], atol=1e-5), name
    figures = term.figures("train")
    assert figures["teacher_kl"] == [pytest.approx(plain.item() / 0.7, rel=1e-4)]
    assert 0 <= figures["top_k_overlap"][0] < 1 and term.figures("train") == {}


def test_updates_on_parts_of_a_generation_batch_weigh_as_one_on_a_whole(tmp_path, model, tokenizer, teacher):
    """The tokens are counted over the generation batch, of which each of two updates sees a half."""
    settings = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "gradient_accumulation_steps": 1}
    trainer = taught(tmp_path, model, tokenizer, teacher, **settings)
    batch = batch_of(trainer)
    plain = 0.7 * plain_term(trainer.model, teacher, batch, len(tokenizer), 1.0, 1.0)
    term, added = trainer.teacher, []
    for start in (0, 4):
        part = {
            name: value[start : start + 4] if torch.is_tensor(value) and value.shape[:1] == (8,) else value
            for name, value in batch.items()
        }
        trainer.teacher = term
        taught_loss = trainer._compute_loss(trainer.model, part)
        trainer.teacher = None
        added.append((taught_loss - trainer._compute_loss(trainer.model, part)).item())
    assert sum(added) / 2 == pytest.approx(plain.item(), rel=1e-4)


def test_weight_0_is_grpo_and_loads_no_teacher(tmp_path, model, tokenizer):
    settings = {"teacher_kl_weight": 0.0, "teacher_model_name_or_path": "/no/such/teacher"}
    settings |= {"max_steps": 1, "optim": "sgd"}
    with_name = writes(make(tmp_path, model, tokenizer, ROWS, right, **settings), *TEXTS)
    plain = writes(make(tmp_path, model, tokenizer, ROWS, right, max_steps=1, optim="sgd"), *TEXTS)
    assert with_name.teacher is None
    with_name.train()
    plain.train()
    assert logged(with_name) == pytest.approx(logged(plain), abs=1e-6) and logged(with_name, "teacher_kl") == []
    for one, other in zip(with_name.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_accumulation_changes_nothing(tmp_path, model, tokenizer, teacher):
    """Four micro-batches of completions of different lengths, or one batch."""
    ends = []
    for size, steps in ((8, 1), (2, 4)):
        trainer = taught(
            tmp_path,
            model,
            tokenizer,
            teacher,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            max_steps=1,
            optim="sgd",
            max_grad_norm=0.0,
        )
        trainer.train()
        ends.append([*trainer.model.parameters()])
        for name in ("loss", "teacher_kl", "top_k_overlap"):
            ends[-1].append(torch.tensor(logged(trainer, name)))
    for one, two in zip(*ends, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_a_resumed_run_is_the_whole_one(tmp_path, model, tokenizer, teacher):
    name = save_model(tmp_path / "teacher", tiny_qwen2(tokenizer, seed=1), tokenizer)

    def trainer():
        settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1, "num_iterations": 2}
        return taught(tmp_path / "run", model, tokenizer, None, teacher_model_name_or_path=name, **settings)

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for figure in ("loss", "teacher_kl"):
        assert logged(resumed, figure) == pytest.approx(logged(whole, figure), abs=1e-6)
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert not list((tmp_path / "run").glob("**/teacher*"))


def test_without_a_reward_the_model_comes_closer_to_its_teacher(tmp_path, model, tokenizer, teacher):
    def nothing(completions, **kwargs):
        return [0.0] * len(completions)

    options = {"teacher_model": teacher, "teacher_tokenizer": tokenizer}
    settings = {"teacher_kl_weight": 1.0, "step_weight": 0, "max_steps": 8}
    trainer = writes(make(tmp_path, model, tokenizer, ROWS, nothing, trainer_options=options, **settings), *TEXTS)
    before = {name: value.clone() for name, value in teacher.named_parameters()}
    trainer.train()
    kl = logged(trainer, "teacher_kl")
    assert len(kl) == 8 and kl[-1] < 0.9 * kl[0]
    assert all(torch.equal(value, before[name]) and value.grad is None for name, value in teacher.named_parameters())


def test_a_teacher_that_is_the_model_has_nothing_to_teach(tmp_path, model, tokenizer):
    """The student itself, and the base of a fresh LoRA: no divergence, and all of the likeliest tokens in common."""
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True)
    for teacher, options in ((copy.deepcopy(model), {}), ("self", {"peft_config": lora})):
        trainer = taught(tmp_path, model, tokenizer, teacher, trainer_options=options, max_steps=1)
        trainer.train()
        assert logged(trainer, "teacher_kl")[0] == pytest.approx(0, abs=1e-6)
        assert logged(trainer, "top_k_overlap") == [1.0]


def test_truncated_completions_that_are_masked_have_no_term(tmp_path, model, tokenizer, teacher):
    trainer = taught(tmp_path, model, tokenizer, teacher, mask_truncated_completions=True)
    batch = batch_of(trainer)
    batch["completion_mask"][0] = 0
    batch["num_items_in_batch"] = batch["completion_mask"].sum()
    trainer._compute_loss(trainer.model, batch)
    expected = plain_term(trainer.model, teacher, batch, len(tokenizer), 1.0, 1.0)
    assert trainer.teacher.figures("train")["teacher_kl"] == [pytest.approx(expected.item(), rel=1e-4)]


@pytest.mark.parametrize("kind", ["step_reasoner", pytest.param("loar", marks=pytest.mark.slow)])
def test_students_of_the_project(tmp_path, tokenizer, teacher, kind):
    model = tiny_step_reasoner(tokenizer) if kind == "step_reasoner" else tiny_qwen2(tokenizer, num_key_value_heads=2)
    if kind == "loar":
        apply_loar(model, LoARConfig(budget=1, task_names=["math"]))
    trainer = taught(tmp_path, model, tokenizer, teacher, max_steps=4, step_weight=0, teacher_kl_weight=5.0)
    trainer.train()
    kl = logged(trainer, "teacher_kl")
    assert kl[-1] < kl[0]


@pytest.mark.slow
def test_a_served_teacher_teaches_as_the_live_one(tmp_path, model, tokenizer, teacher):
    exact = copy.deepcopy(teacher)
    exact.resize_token_embeddings(len(tokenizer))
    server = FakeServer(exact)
    try:
        settings = {"teacher_top_k": len(tokenizer), "max_steps": 1}
        served = taught(tmp_path, model, tokenizer, server.url, **settings)
        live = taught(tmp_path, model, tokenizer, exact, **settings)
        served.train()
        live.train()
        for name in ("loss", "teacher_kl"):
            assert logged(served, name) == pytest.approx(logged(live, name), abs=1e-4)
        with pytest.raises(TeacherError, match="temperature=1"):
            taught(tmp_path, model, tokenizer, server.url, temperature=0.7)
    finally:
        server.close()


@pytest.mark.slow
def test_evaluation_has_the_figures(tmp_path, model, tokenizer, teacher):
    trainer = taught(tmp_path, model, tokenizer, teacher, per_device_eval_batch_size=4)
    metrics = trainer.evaluate(trainer.train_dataset)
    assert metrics["eval_teacher_kl"] > 0 and 0 <= metrics["eval_top_k_overlap"] <= 1


def test_what_is_refused(tmp_path, model, tokenizer, teacher, records):
    from hf_reason.text import render, train_tokenizer

    other = train_tokenizer([text for r in records for text in render(r).values()], vocab_size=330)
    for given, options, message in (
        (None, {}, "There is no teacher. Give teacher_model_name_or_path"),
        (str(tmp_path / "nothing"), {}, "no such folder"),
        ("self", {}, "without its LoRA"),
        (teacher, {"teacher_tokenizer": other}, "The student's tokenizer is not the teacher's.*sequence-level"),
        ({"math": teacher}, {}, "GRPO has one teacher"),
    ):
        with pytest.raises(ValueError, match=message):
            taught(tmp_path, model, tokenizer, given, trainer_options=options)
    for settings, message in (
        ({"teacher_kl_weight": -1.0}, "teacher_kl_weight must not be negative"),
        ({"teacher_kl_weight": float("nan")}, "teacher_kl_weight must not be negative"),
        ({"teacher_kl_beta": 1.5}, "teacher_kl_beta must be between 0 and 1"),
        ({"teacher_top_k": 0}, "teacher_top_k must be above 0"),
        ({"teacher_model_init_kwargs": "{"}, "not JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            StepGRPOConfig(str(tmp_path), use_cpu=True, bf16=False, **settings)


def test_a_cache_is_refused(tmp_path, model, tokenizer):
    from hf_reason.teachers import TeacherSource

    with pytest.raises(ValueError, match="needs a teacher that reads new text"):
        taught(tmp_path, model, tokenizer, TeacherSource("cache", str(tmp_path)))
