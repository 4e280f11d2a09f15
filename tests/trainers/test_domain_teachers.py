"""Several teachers by domain: parity with single teachers, what is loaded, and what is refused."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny import evaluation_loss, first_batch, logged, save_model, tiny_qwen2, tiny_trainer, training_loss

from hf_reason.teachers import DomainTeachers, TeacherError, TeacherSource
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer, teacher_setup


@pytest.fixture
def mixed(records):
    """Records of three domains, in turn."""
    return [{**record, "domain": ("math", "finance", "medical")[row % 3]} for row, record in enumerate(records[:12])]


@pytest.fixture
def teachers(tokenizer):
    """Of different widths; one with a padded head."""
    made = {
        "math": tiny_qwen2(tokenizer, seed=1, hidden_size=24),
        "finance": tiny_qwen2(tokenizer, seed=2, vocab_size=len(tokenizer) + 7),
    }
    for model in made.values():
        with torch.no_grad():
            model.lm_head.weight.mul_(20)
    return made | {"default": made["finance"]}


def trainer_of(tmp_path, model, tokenizer, rows, teacher, **options):
    kwargs = {"teacher_model": teacher, "teacher_tokenizer": tokenizer}
    return tiny_trainer(
        DistillKLTrainer, DistillKLConfig, tmp_path / "run", model, tokenizer, rows, None, kwargs, **options
    )


@pytest.mark.parametrize(
    "options", [{}, {"beta": 1.0, "temperature": 2.0}, {"path_weight": 3.0, "ce_weight": 0.0, "thought_weight": 0.5}]
)
def test_each_row_has_the_loss_of_its_own_teacher(tmp_path, tiny_model, tokenizer, mixed, teachers, options):
    both = trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers, **options)
    single = {
        name: trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers[name], **options)
        for name in ("math", "finance")
    }
    batch = first_batch(both, 6)
    rows = {"math": [0, 3], "finance": [1, 2, 4, 5]}
    loss = training_loss(both, batch)
    loss.backward()
    weight = both._token_weights(batch)
    total, pairs, wanted = weight.sum(), both._count_pairs(batch), 0.0
    for name, chosen in rows.items():
        part = {key: value[chosen] for key, value in batch.items() if isinstance(value, torch.Tensor)}
        trainer = single[name]
        trainer._pairs = pairs
        # the same divisors as in the whole batch
        wanted = wanted + trainer.compute_loss(trainer.model.train(), part, num_items_in_batch=total)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), abs=1e-5)
    parameters = (both.model, single["math"].model, single["finance"].model)
    for (name, one), two, three in zip(
        parameters[0].named_parameters(), parameters[1].parameters(), parameters[2].parameters(), strict=True
    ):
        assert torch.allclose(one.grad, two.grad + three.grad, atol=1e-5), name


def test_one_teacher_under_every_name_is_that_teacher(tmp_path, tiny_model, tokenizer, mixed, teachers):
    one = teachers["math"]
    several = trainer_of(tmp_path, tiny_model, tokenizer, mixed, {"math": one, "default": one})
    alone = trainer_of(tmp_path, tiny_model, tokenizer, mixed, one)
    batches = [first_batch(trainer) for trainer in (several, alone)]
    assert evaluation_loss(several, batches[0]) == pytest.approx(evaluation_loss(alone, batches[1]), abs=1e-6)
    assert len(several.teacher.each) == 1


def test_teachers_are_loaded_once_each(tmp_path, tiny_model, tokenizer, mixed, teachers, monkeypatch):
    names = {name: save_model(tmp_path / name, teachers[name], tokenizer) for name in ("math", "finance")}
    loaded = []
    load = teacher_setup.load_teacher_model
    monkeypatch.setattr(teacher_setup, "load_teacher_model", lambda name, *a: loaded.append(name) or load(name, *a))
    mapping = {**names, "medical": names["finance"]}
    options = {"teacher_model_name_or_path": json.dumps(mapping)}  # as on a command line
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, mixed, None, **options)
    assert sorted(loaded) == sorted(names.values())
    assert trainer.args.teacher_model_name_or_path == mapping
    given = trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers)
    batches = [first_batch(one) for one in (trainer, given)]
    assert evaluation_loss(trainer, batches[0]) == pytest.approx(evaluation_loss(given, batches[1]), abs=1e-6)


def test_a_teacher_reads_no_row_of_another(tmp_path, tiny_model, tokenizer, mixed, teachers):
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers)
    read = []
    for teacher in trainer.teacher.each:
        plain = teacher.targets
        teacher.targets = lambda batch, plain=plain, **k: (
            read.append(batch["domain_ids"][:, 0].tolist()) or plain(batch, **k)
        )
    evaluation_loss(trainer, first_batch(trainer, 6))
    math, finance, medical = (
        ["finance", "medical", "legal", "science", "math"].index(n) for n in ("math", "finance", "medical")
    )
    assert read == [[math] * 2, [finance, medical] * 2]


@pytest.mark.slow
def test_on_policy_rows_keep_their_domain(tmp_path, tiny_model, tokenizer, mixed, teachers):
    options = {"lmbda": 1.0, "max_completion_length": 8, "max_steps": 2, "first_steps": 2}
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers, **options)
    batch = first_batch(trainer, 6)
    trainer.model_wrapped.train()
    (own,), _ = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    assert own["domain_ids"][:, 0].tolist() == batch["domain_ids"][:, 0].tolist()
    trainer.train()
    assert len(logged(trainer, "top_k_overlap")) == 2


def test_what_is_refused(tmp_path, tiny_model, tokenizer, mixed, teachers):
    only = {"math": teachers["math"]}
    for rows, given, options, message in (
        (mixed, only, {}, "no teacher for the domain finance, medical of the train data set.*'default'"),
        ([{**mixed[0], "domain": "cooking"}] * 4, only, {}, "no teacher for the domain other"),
        (mixed, {"maths": teachers["math"]}, {}, "maths is no domain. The domains are finance"),
        (mixed, {}, {}, "the mapping is empty"),
        (mixed, {"math": None}, {}, "There is no teacher"),
        (mixed, {"math": {"math": teachers["math"]}}, {}, "is a mapping"),
        (mixed, teachers, {"packing": True}, "packing=False and padding_free=False"),
        (mixed, {"default": "self"}, {}, "without its LoRA"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer_of(tmp_path, tiny_model, tokenizer, rows, given, **options)
    with pytest.raises(ValueError, match="not JSON"):
        DistillKLConfig(str(tmp_path), use_cpu=True, bf16=False, teacher_model_name_or_path="{math: x}")
    with pytest.raises(TeacherError, match="the data set has none"):
        trainer_of(tmp_path, tiny_model, tokenizer, mixed, teachers).teacher.targets(
            {"labels": torch.zeros(1, 2)}, path_consistency=False
        ).__enter__()


def test_a_cache_among_several_is_refused(tmp_path, monkeypatch):
    from hf_reason.teachers import source

    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(source, "is_cache", lambda name: True)
    monkeypatch.setattr(source, "read_meta", lambda path: {})
    with pytest.raises(TeacherError, match="teacher of the domain math is a cache.*one domain at a time"):
        TeacherSource.parse({"math": str(tmp_path / "cache")})


def test_sharded_runs_are_refused(teachers):
    student = SimpleNamespace(accelerator=SimpleNamespace(distributed_type="DEEPSPEED"))
    with pytest.raises(ValueError, match="not with DeepSpeed or FSDP"):
        teacher_setup.make_teacher(TeacherSource.parse(teachers), student, None, None)


@pytest.mark.slow
def test_conversations_have_no_domain(tmp_path, tiny_model, tokenizer, teachers):
    rows = Dataset.from_list([{"prompt": "3+4=?", "completion": "7"}] * 8)
    trainer = trainer_of(tmp_path, tiny_model, tokenizer, rows, copy.copy(teachers))
    with pytest.raises(TeacherError, match="Give records"):
        trainer.train()


def test_vocabulary_of_several():
    made = {"math": SimpleNamespace(vocab_size=5), "default": SimpleNamespace(vocab_size=4)}
    assert DomainTeachers(made).vocab_size == 4
