"""DistillKLTrainer: parity with the plain formula, accumulation, packing, units, LoRA, teachers (pains 8 to 16)."""

import copy
from functools import partial

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from plain_formulas import divergence
from teacher_server import FakeServer
from tiny import (
    assert_accumulation_changes_nothing,
    assert_training_loss_is,
    evaluation_loss,
    first_batch,
    logged,
    save_model,
    tiny_qwen2,
    tiny_step_reasoner,
    tiny_trainer,
    train_and_resume,
)

from hf_reason.losses import path_consistency_loss, step_similarities, step_vectors, token_weights
from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher, TeacherError
from hf_reason.text import encode
from hf_reason.text.spans import completion_spans
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer, distill_kl
from hf_reason.trainers.on_policy import ON_POLICY

LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True)


@pytest.fixture
def teacher(tokenizer):
    """Another width, more layers, a head padded beyond the tokenizer; sharp enough to differ from the student."""
    model = tiny_qwen2(tokenizer, seed=1, vocab_size=len(tokenizer) + 7, hidden_size=24, num_hidden_layers=3)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model.eval()


def _trainer(tmp_path, model, tokenizer, records, teacher, eval_records=None, trainer_kwargs=None, **overrides):
    options = {"teacher_model": teacher, "teacher_tokenizer": tokenizer, **(trainer_kwargs or {})}
    return tiny_trainer(
        DistillKLTrainer,
        DistillKLConfig,
        tmp_path / "run",
        model,
        tokenizer,
        records,
        eval_records,
        options,
        **overrides,
    )


def _cache(tmp_path, teacher, tokenizer, records, **changes):
    """A cache of records 0 to 39, with the whole vocabulary unless `top_k` says otherwise; its folder."""
    rows = [{**encode(record, tokenizer), "id": record["id"]} for record in records[:40]]
    settings = {"vocab_size": len(tokenizer), "top_k": len(tokenizer), "path_consistency": True}
    settings = CacheSettings("t", "t", **{**settings, **changes})
    live = LiveTeacher(teacher, len(tokenizer))
    builder = CacheBuilder(tmp_path / "cache", {"train": Dataset.from_list(rows)}, live, tokenizer, settings)
    builder.start()
    builder.build()
    builder.finish()
    return str(builder.folder)


def _plain_loss(student, teacher, batch, ids, args):
    """The loss from its definition, with all logits."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    ours, our_states = student(**inputs).logits, student.base_model(**inputs).last_hidden_state
    with torch.no_grad():
        theirs, their_states = teacher(**inputs).logits, teacher.base_model(**inputs).last_hidden_state
    logits = ours[:, :-1].double()
    labels = batch["labels"][:, 1:]
    ce = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    both = [(x[:, :-1, :ids].double() / args.temperature).log_softmax(-1) for x in (ours, theirs)]
    weights = token_weights(
        batch["labels"],
        batch["segment_ids"],
        batch["step_ids"],
        thought_weight=args.thought_weight,
        answer_weight=args.answer_weight,
        step_weighting=args.step_weighting,
    )[:, 1:].double()
    loss = (weights * (args.ce_weight * ce + args.kl_weight * divergence(*both, args.beta))).sum() / weights.sum()
    if args.path_weight:
        parts = [step_vectors(x.double(), batch["step_ids"]) for x in (our_states, their_states)]
        counts = parts[0][1]
        path = path_consistency_loss(*(step_similarities(vectors) for vectors, _ in parts), counts)
        loss = loss + args.path_weight * path.sum() / (counts > 1).sum()
    return loss


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 1.0, "temperature": 2.0},
        {"beta": 0.5, "step_weighting": "step", "ce_weight": 0.0},
        {"thought_weight": 0.3, "answer_weight": 0.01, "kl_weight": 2.0, "path_weight": 3.0},
        {"kl_weight": 0.0, "path_weight": 1.0},
    ],
)
def test_loss_is_the_plain_formula(tmp_path, tiny_model, tokenizer, records, teacher, options):
    """Pains 8 and 13: value and gradients, in training and in evaluation, the teacher's padding left out."""
    # the first record has no thought, so no pair of steps
    records = [{**records[0], "steps": []}, *records[1:]]
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, copy.deepcopy(teacher), **options)
    batch = first_batch(trainer)
    reference = copy.deepcopy(tiny_model).train()
    expected = _plain_loss(reference, teacher, batch, len(tokenizer), trainer.args)
    assert_training_loss_is(trainer, batch, expected, reference)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected.item(), abs=1e-5)


def test_no_logits_are_built(tmp_path, tiny_model, tokenizer, records, teacher):
    """Pain 10: neither head is ever called as a module."""
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher, records[:4], path_weight=1.0)
    trainer.model.lm_head.forward = teacher.lm_head.forward = None
    trainer.train()
    assert trainer.evaluate()["eval_kl"] > 0


@pytest.mark.parametrize("options", [{}, {"step_weighting": "step", "path_weight": 2.0}])
@pytest.mark.parametrize("source", ["live", "cache"])
def test_accumulation_of_eight_equals_a_batch_of_eight(
    tmp_path, tiny_model, tokenizer, records, teacher, options, source
):
    """Pain 12: with rows of different lengths, one of them without a pair of steps."""
    uneven = sorted(records[:40], key=lambda record: len(record["steps"]))
    uneven = [{**uneven[0], "steps": []}, *uneven[1:4], *uneven[-4:]]
    if source == "cache":
        teacher = _cache(tmp_path, teacher, tokenizer, uneven)
    make = partial(_trainer, tmp_path, tiny_model, tokenizer, uneven, teacher, **options)
    assert_accumulation_changes_nothing(make, "kl", "ce")


@pytest.mark.parametrize("source", ["live", "cache"])
def test_packed_loss_equals_padded_loss(tmp_path, tiny_model, tokenizer, records, teacher, source):
    if source == "cache":
        teacher = _cache(tmp_path, teacher, tokenizer, records)
    losses = []
    for packing, length in ((False, 512), (True, 2048)):
        trainer = _trainer(
            tmp_path,
            tiny_model,
            tokenizer,
            records[:20],
            teacher,
            packing=packing,
            max_length=length,
            path_weight=1.0,
            step_weighting="step",
        )
        losses.append(evaluation_loss(trainer, first_batch(trainer, None)))
    assert len(trainer.train_dataset) < 20
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_cache_of_the_whole_vocabulary_is_the_live_teacher(tmp_path, tiny_model, tokenizer, records, teacher):
    folder = _cache(tmp_path, teacher, tokenizer, records)
    curves = []
    for source in (teacher, folder):
        trainer = _trainer(
            tmp_path, tiny_model, tokenizer, records[:40], source, max_steps=4, path_weight=1.0, beta=0.5
        )
        trainer.train()
        curves.append([*logged(trainer), *logged(trainer, "kl"), *logged(trainer, "path")])
    assert curves[0] == pytest.approx(curves[1], abs=3e-3)


def test_top_k_cache_never_reports_more_than_the_wholedivergence(tmp_path, tiny_model, tokenizer, records, teacher):
    live = _trainer(tmp_path, tiny_model, tokenizer, records[:8], teacher, records[:8]).evaluate()["eval_kl"]
    folder = _cache(tmp_path, teacher, tokenizer, records, top_k=16)
    cached = _trainer(tmp_path, tiny_model, tokenizer, records[:8], folder, records[:8]).evaluate()["eval_kl"]
    assert 0.5 * live < cached < live


def test_evaluation_is_in_the_units_of_training(tmp_path, tiny_model, tokenizer, records, teacher):
    """Pain 15: eval_loss is the training loss of the same records; its parts are reported with it."""
    options = {"ce_weight": 0.25, "kl_weight": 2.0, "path_weight": 3.0, "per_device_eval_batch_size": 8}
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher, records[:8], **options)
    metrics = trainer.evaluate()
    trained = trainer.compute_loss(trainer.model.train(), _batch_of(trainer, trainer.eval_dataset))
    assert metrics["eval_loss"] == pytest.approx(trained.item(), abs=1e-5)
    parts = 0.25 * metrics["eval_ce"] + 2 * metrics["eval_kl"] + 3 * metrics["eval_path"]
    assert metrics["eval_loss"] == pytest.approx(parts, abs=1e-5)


def _batch_of(trainer, dataset):
    return trainer._prepare_inputs(trainer.data_collator(list(dataset)))


def test_the_teacher_itself_has_nothing_to_learn(tmp_path, tiny_model, tokenizer, records):
    trainer = _trainer(
        tmp_path, tiny_model, tokenizer, records, copy.deepcopy(tiny_model), records[:4], path_weight=1.0
    )
    metrics = trainer.evaluate()
    assert metrics["eval_kl"] == pytest.approx(0, abs=1e-6) and metrics["eval_path"] == pytest.approx(0, abs=1e-6)


def test_the_teacher_is_not_trained(tmp_path, tiny_model, tokenizer, records, teacher):
    before = copy.deepcopy(teacher.state_dict())
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher, path_weight=1.0)
    trainer.train()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())


@pytest.mark.parametrize("source", ["live", "self", "cache"])
def test_lora_student(tmp_path, tiny_model, tokenizer, records, teacher, source):
    """Pain 15: only the adapter moves; 'self' starts at a divergence of 0 and is held near it."""
    teacher = {"live": teacher, "self": "self", "cache": None}[source] or _cache(tmp_path, teacher, tokenizer, records)
    trainer = _trainer(
        tmp_path,
        tiny_model,
        tokenizer,
        records[:40],
        teacher,
        records[:4],
        max_steps=4,
        gradient_checkpointing=True,
        trainer_kwargs={"peft_config": LORA},
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    start = trainer.evaluate()["eval_kl"]
    trainer.train()
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]) != ("lora_" in name), name
    if source == "self":
        assert start == pytest.approx(0, abs=1e-6) and trainer.evaluate()["eval_kl"] > 1e-5


def test_step_reasoner_learns_from_a_decoder_only_teacher(tmp_path, tokenizer, records, teacher):
    student = tiny_step_reasoner(tokenizer)
    trainer = _trainer(tmp_path, student, tokenizer, records, copy.deepcopy(teacher), path_weight=1.0, max_steps=6)
    batch = first_batch(trainer)
    expected = _plain_loss(trainer.model.eval(), teacher, batch, len(tokenizer), trainer.args)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected.item(), abs=1e-4)
    trainer.train()
    assert logged(trainer)[-1] < logged(trainer)[0]


@pytest.mark.parametrize("source", ["live", "cache"])
def test_resumed_run_repeats_the_uninterrupted_one(tmp_path, tiny_model, tokenizer, records, teacher, source):
    if source == "cache":
        teacher = _cache(tmp_path, teacher, tokenizer, records)
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "path_weight": 1.0}
    if source == "live":
        options |= {"lmbda": 0.5, "max_completion_length": 4}
    make = partial(_trainer, tmp_path, tiny_model, tokenizer, records[:40], teacher, **options)
    whole, again = train_and_resume(make, at=2)
    assert logged(again) == pytest.approx(logged(whole), abs=1e-6)


def test_a_batch_without_any_target_costs_nothing(tmp_path, tiny_model, tokenizer, records, teacher):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher, path_weight=1.0)
    batch = first_batch(trainer)
    batch["labels"].fill_(-100)
    batch["step_ids"].zero_()
    trainer._first_batch_checked = True
    loss = trainer.compute_loss(trainer.model.train(), batch)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


# On-policy


def test_on_policy_batches_are_the_students_own(tmp_path, tiny_model, tokenizer, records, teacher):
    options = {"lmbda": 1.0, "max_completion_length": 12, "ce_weight": 5.0, "kl_weight": 1.0}
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher, max_steps=1, **options)
    trainer._first_batch_checked = True
    batch = first_batch(trainer)
    trainer.model_wrapped.train()
    (own,), count = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    assert own[ON_POLICY] and trainer.model.training
    assert count == (own["labels"][:, 1:] != -100).sum()
    for row in range(4):
        prompt = int((batch["labels"][row] == -100).int().argmin())
        assert torch.equal(own["input_ids"][row, :prompt], batch["input_ids"][row, :prompt])
        assert (own["labels"][row, :prompt] == -100).all()
        written = own["labels"][row][own["labels"][row] != -100]
        assert 1 <= len(written) <= 12
    # their tokens are nobody's truth: the loss is the divergence alone
    loss = trainer.compute_loss(trainer.model, dict(own), num_items_in_batch=count)
    inputs = {"input_ids": own["input_ids"], "attention_mask": own["attention_mask"]}
    size = len(tokenizer)
    both = [m(**inputs).logits[:, :-1, :size].log_softmax(-1) for m in (trainer.model, teacher)]
    mask = own["labels"][:, 1:] != -100
    assert loss.item() == pytest.approx(divergence(*both, 0.0)[mask].mean().item(), abs=1e-5)


def test_own_completion_ends_with_its_first_stop_token(tokenizer, records):
    from types import SimpleNamespace

    from hf_reason.text.collator import CoTCollator
    from hf_reason.trainers.on_policy import own_completions

    stop, other = tokenizer.eos_token_id, 7
    collate = CoTCollator(pad_token_id=tokenizer.pad_token_id)
    batch = collate([encode(record, tokenizer) for record in records[:2]])

    def generate(input_ids, **options):
        written = torch.tensor([[other, stop, stop, other], [other] * 4])
        return torch.cat([input_ids, written], dim=1)

    model = SimpleNamespace(generate=generate, generation_config=SimpleNamespace(eos_token_id=stop))
    own = own_completions(model, batch, tokenizer, collate, max_new_tokens=4, temperature=1.0)
    targets = [row[row != -100].tolist() for row in own["labels"]]
    assert targets == [[other, stop], [other] * 4]


def test_share_of_on_policy_batches(tmp_path, tiny_model, tokenizer, records, teacher, monkeypatch):
    made = []
    monkeypatch.setattr(
        distill_kl,
        "own_completions",
        lambda model, batch, *rest, **more: made.append(batch) or {**batch, ON_POLICY: True},
    )
    trainer = _trainer(
        tmp_path,
        tiny_model,
        tokenizer,
        records,
        teacher,
        max_steps=8,
        gradient_accumulation_steps=4,
        per_device_train_batch_size=1,
        lmbda=0.5,
    )
    trainer.train()
    assert 6 < len(made) < 26


def test_spans_of_a_written_completion_are_those_of_encode(tokenizer, records):
    for record in [*records[:20], {**records[0], "steps": []}]:
        encoded = encode(record, tokenizer)
        first = next(place for place, label in enumerate(encoded["labels"]) if label != -100)
        found = completion_spans(encoded["input_ids"][first:], tokenizer)
        assert found == {name: encoded[name][first:] for name in ("segment_ids", "step_ids")}
        cut = completion_spans(encoded["input_ids"][first : first + 9], tokenizer)
        assert cut["step_ids"] == encoded["step_ids"][first : first + 9] or not record["steps"]


# Teachers


def test_served_teacher(tmp_path, tiny_model, tokenizer, records, teacher):
    """Pain 16: the probe accepts the right server, and training from all its tokens is training from the model."""
    records = sorted(records, key=lambda record: len(record["steps"]))[:4]  # a server of all tokens is slow
    exact = copy.deepcopy(teacher)
    exact.resize_token_embeddings(len(tokenizer))
    exact.save_pretrained(tmp_path / "local")
    server = FakeServer(exact)
    try:
        options = {"top_k": len(tokenizer), "teacher_probe": str(tmp_path / "local"), "max_steps": 1}
        served = _trainer(tmp_path, tiny_model, tokenizer, records, server.url, **options)
        batch = first_batch(served)
        live = _trainer(tmp_path, tiny_model, tokenizer, records, exact)
        assert evaluation_loss(served, batch) == pytest.approx(evaluation_loss(live, batch), abs=1e-4)
        packed = _trainer(tmp_path, tiny_model, tokenizer, records, server.url, packing=True, **options)
        plain = _trainer(tmp_path, tiny_model, tokenizer, records, exact)
        rows = [first_batch(t, None) for t in (packed, plain)]
        assert evaluation_loss(packed, rows[0]) == pytest.approx(evaluation_loss(plain, rows[1]), abs=1e-4)
        served.train()
        for extra in ({"temperature": 2.0}, {"path_weight": 1.0}):
            with pytest.raises(TeacherError, match="temperature=1 and path_weight=0"):
                _trainer(tmp_path, tiny_model, tokenizer, records, server.url, **options, **extra)
        server.model = copy.deepcopy(exact)
        with torch.no_grad():
            server.model.lm_head.weight.mul_(-1)
        with pytest.raises(TeacherError, match="not the local"):
            _trainer(tmp_path, tiny_model, tokenizer, records, server.url, **options)
    finally:
        server.close()


def test_deepspeed_prepares_the_teacher_on_its_own(monkeypatch, teacher):
    """Pain 14: under DeepSpeed the teacher gets an engine of its own, not the student's accelerator.prepare."""
    import trl.models
    from accelerate.utils import DistributedType

    from hf_reason.teachers import prepare_teacher_model

    class Accelerator:
        distributed_type = DistributedType.DEEPSPEED

        def prepare(self, *models):
            raise AssertionError("prepared with the student")

        prepare_model = prepare

    made = []
    monkeypatch.setattr(trl.models, "prepare_deepspeed", lambda model, accelerator: made.append(model) or "engine")
    assert prepare_teacher_model(teacher, Accelerator()) == "engine" and made == [teacher]


def test_teacher_behind_a_wrapper_is_called_through_it(tmp_path, tiny_model, tokenizer, records, teacher):
    """A sharded teacher's weights exist only inside its wrapper's forward."""
    plain = _trainer(tmp_path, tiny_model, tokenizer, records, copy.deepcopy(teacher), path_weight=1.0)
    batch = first_batch(plain)
    expected, calls = evaluation_loss(plain, batch), []

    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, **inputs):
            calls.append(inputs)
            return self.module(**inputs)

    wrapped = LiveTeacher(Wrapper(teacher), len(tokenizer))
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, wrapped, path_weight=1.0)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected, abs=1e-6) and len(calls) == 1


def test_teacher_has_no_dropout_even_when_it_is_the_student(tmp_path, tiny_model, tokenizer, records, teacher):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, copy.deepcopy(teacher))
    batch = first_batch(trainer)
    expected = evaluation_loss(trainer, batch)
    for layer in teacher.model.layers:
        layer.self_attn.attention_dropout = 0.5
    trainer.teacher = LiveTeacher(teacher.train(), len(tokenizer))
    assert evaluation_loss(trainer, batch) == pytest.approx(expected, abs=1e-6)
    assert teacher.training


def test_teacher_in_its_own_precision(tmp_path, tiny_model, tokenizer, records, teacher):
    saved = save_model(tmp_path / "teacher", teacher, tokenizer)
    options = {"teacher_model_init_kwargs": '{"dtype": "bfloat16"}'}
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, saved, **options)
    assert trainer.teacher.model.dtype == torch.bfloat16 and trainer.model.dtype == torch.float32
    trainer.train()
    assert all(0 < loss < 100 for loss in logged(trainer))


@pytest.mark.parametrize("source", ["live", "cache"])
def test_mixed_precision(tmp_path, tiny_model, tokenizer, records, teacher, source):
    """bf16 autocast stays near float32; the losses themselves are summed in float32."""
    if source == "cache":
        teacher = _cache(tmp_path, teacher, tokenizer, records)
    figures = []
    for bf16 in (False, True):
        trainer = _trainer(tmp_path, tiny_model, tokenizer, records[:40], teacher, bf16=bf16, path_weight=1.0)
        trainer.train()
        figures.append([*logged(trainer), *logged(trainer, "kl"), *logged(trainer, "path")])
    assert figures[0] == pytest.approx(figures[1], rel=0.03)


def test_four_bit_teacher(tmp_path, tiny_model, tokenizer, records):
    pytest.importorskip("bitsandbytes")
    wide = tiny_qwen2(tokenizer, hidden_size=64, intermediate_size=64)
    saved = save_model(tmp_path / "teacher", wide, tokenizer)
    options = {"teacher_model_init_kwargs": {"load_in_4bit": True, "dtype": "float32"}}
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, saved, **options)
    assert trainer.teacher.model.is_quantized
    trainer.train()


# What is refused


def test_nan_teacher(tmp_path, tiny_model, tokenizer, records, teacher):
    with torch.no_grad():
        teacher.model.norm.weight[0] = torch.nan
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, teacher)
    with pytest.raises(TeacherError, match="NaN or infinite.*bfloat16"):
        trainer.train()


def test_cache_of_other_data_and_of_another_tokenizer(tmp_path, tiny_model, tokenizer, records, teacher):
    """Pain 11, through the trainer."""
    folder = _cache(tmp_path, teacher, tokenizer, records, top_k=8)
    with pytest.raises(TeacherError, match="20 of 20 records of the train .*not in it.*made from other data"):
        _trainer(tmp_path, tiny_model, tokenizer, records[40:], folder)
    with pytest.raises(TeacherError, match="of the eval data set are not in it"):
        _trainer(tmp_path, tiny_model, tokenizer, records[:4], folder, records[40:44])
    from hf_reason.text import render, train_tokenizer

    other = train_tokenizer([text for r in records for text in render(r).values()], vocab_size=330)
    with pytest.raises(TeacherError, match="cached with other tokens.*Tokenizer"):
        _trainer(tmp_path, tiny_model, other, records[:4], folder)


def test_unknown_and_mismatched_teachers(tmp_path, tiny_model, tokenizer, records, teacher):
    with pytest.raises(ValueError, match="There is no teacher"):
        _trainer(tmp_path, tiny_model, tokenizer, records, None)
    with pytest.raises(TeacherError, match="no such folder"):
        _trainer(tmp_path, tiny_model, tokenizer, records, str(tmp_path / "nothing"))
    with pytest.raises(ValueError, match="without its LoRA"):
        _trainer(tmp_path, tiny_model, tokenizer, records, "self")
    small = copy.deepcopy(teacher)
    small.resize_token_embeddings(len(tokenizer) - 3)
    with pytest.raises(ValueError, match="belongs to another tokenizer"):
        _trainer(tmp_path, tiny_model, tokenizer, records, small)
    with pytest.raises(TeacherError, match="Give teacher_tokenizer_name_or_path"):
        DistillKLTrainer(
            tiny_model,
            DistillKLConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False),
            train_dataset=Dataset.from_list(records),
            processing_class=tokenizer,
            teacher_model=teacher,
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_weight": 0.0}, "nothing is learned from the teacher"),
        ({"ce_weight": -1.0}, "ce_weight must not be negative"),
        ({"beta": 1.5}, "beta must be between 0 and 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"lmbda": -0.1}, "lmbda"),
        ({"label_smoothing_factor": 0.1}, "do not work with a teacher"),
        ({"lmbda": 0.5, "packing": True}, "packing=False"),
        ({"teacher_model_init_kwargs": "{"}, "not JSON"),
    ],
)
def test_options_that_exclude_each_other(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        DistillKLConfig(str(tmp_path), use_cpu=True, bf16=False, **options)


def test_what_a_cache_cannot_do(tmp_path, tiny_model, tokenizer, records, teacher):
    folder = _cache(tmp_path, teacher, tokenizer, records, top_k=8)
    for options, message in (
        ({"lmbda": 0.5}, "reads new text"),
        ({"path_weight": 1.0, "overlong": "truncate"}, "cuts steps"),
        ({"temperature": 2.0}, "made at temperature"),
        ({"trainer_kwargs": {"data_collator": lambda rows: {}}}, "leave data_collator out"),
    ):
        with pytest.raises(ValueError, match=message):
            _trainer(tmp_path, tiny_model, tokenizer, records[:4], folder, **options)
    streamed = IterableDataset.from_generator(lambda: iter(records[:4]))
    with pytest.raises(ValueError, match="is streamed"):
        DistillKLTrainer(
            tiny_model,
            DistillKLConfig(str(tmp_path), max_steps=1, report_to="none", use_cpu=True, bf16=False),
            train_dataset=streamed,
            processing_class=tokenizer,
            teacher_model=folder,
        )


def test_students_that_cannot_be_compared(tmp_path, tiny_model, tokenizer, records, teacher):
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ValueError, match="Use LoRA"):
        _trainer(tmp_path, tiny_model, tokenizer, records, teacher, trainer_kwargs={"peft_config": prompt})
    with pytest.raises(ValueError, match="Use generation_eval"):
        _trainer(tmp_path, tiny_model, tokenizer, records, teacher, trainer_kwargs={"compute_metrics": len})
    head = LoraConfig(r=2, target_modules=["q_proj", "lm_head"])
    with pytest.raises(ValueError, match="lm_head"):
        _trainer(tmp_path, tiny_model, tokenizer, records, teacher, trainer_kwargs={"peft_config": head})
    adapted = LiveTeacher(get_peft_model(teacher, head), len(tokenizer))
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, adapted)
    with pytest.raises(ValueError, match="merge_and_unload"):
        trainer.train()


@pytest.mark.parametrize("options", [{"bias": "all"}, {"init_lora_weights": "pissa"}])
def test_self_needs_an_untouched_base(tmp_path, tiny_model, tokenizer, records, options):
    lora = LoraConfig(r=2, target_modules=["q_proj"], **options)
    with pytest.raises(ValueError, match=f"needs the base model unchanged: leave {next(iter(options))}="):
        _trainer(tmp_path, tiny_model, tokenizer, records, "self", trainer_kwargs={"peft_config": lora})
