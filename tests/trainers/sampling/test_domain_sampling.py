"""Importance sampling over domains: the plan's numbers, the loss's expectation, the trainer, bad input."""

import copy
import itertools
import json
import logging
from functools import partial

import pytest
import torch
from datasets import Dataset
from tiny import assert_accumulation_changes_nothing, logged, tiny_trainer

from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.sampling.domains import domain_id, plan_domains

MATH, FINANCE = domain_id("math"), domain_id("finance")


@pytest.fixture(scope="module")
def two_domains() -> list[dict]:
    """Twelve records of math, four of finance."""
    return [
        make_record(row["context"], row["steps"], row["answer"], domain=domain)
        for domain, count in (("math", 12), ("finance", 4))
        for row in generate_word_problems(count, seed=2, domain=domain)
    ]


def _trainer(tmp_path, model, tokenizer, rows, **options):
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, rows, **options)


def test_shares_by_temperature_and_by_name():
    counts, sizes = {MATH: 800, FINANCE: 200}, {MATH: 50.0, FINANCE: 50.0}
    assert plan_domains(counts, sizes).ratios == {FINANCE: 0.2, MATH: 0.8}
    assert plan_domains(counts, sizes, temperature=2).ratios[MATH] == pytest.approx(2 / 3)
    assert plan_domains(counts, sizes, temperature=1e9).ratios[MATH] == pytest.approx(0.5)
    plan = plan_domains(counts, sizes, ratios={"math": 1, "finance": 3})
    assert plan.ratios == {FINANCE: 0.75, MATH: 0.25}
    assert plan.weights == {FINANCE: 1.0, MATH: 1.0}
    # what the data hold by four fifths and is drawn by one quarter
    plan = plan_domains(counts, sizes, ratios={"math": 1, "finance": 3}, target="data")
    assert plan.weights == {FINANCE: pytest.approx(0.2 / 0.75), MATH: pytest.approx(0.8 / 0.25)}
    plan = plan_domains(counts, sizes, temperature=2, target={"math": 0.5, "finance": 0.5})
    assert plan.weights == {FINANCE: pytest.approx(0.5 * 3), MATH: pytest.approx(0.5 * 1.5)}


def test_weights_make_up_for_longer_examples_of_a_domain():
    """Of many draws, the weighted sum over the sum of tokens must tend to the target's mean a token."""
    counts, sizes = {MATH: 300, FINANCE: 100}, {MATH: 20.0, FINANCE: 60.0}
    loss = {MATH: 0.5, FINANCE: 2.0}  # a token
    plan = plan_domains(counts, sizes, ratios={"math": 0.1, "finance": 0.9}, target="data")
    drawn = sum(plan.ratios[d] * plan.weights[d] * sizes[d] * loss[d] for d in counts)
    estimate = drawn / sum(plan.ratios[d] * sizes[d] for d in counts)
    target = sum(counts[d] * sizes[d] * loss[d] for d in counts) / sum(counts[d] * sizes[d] for d in counts)
    assert estimate == pytest.approx(target)


def test_expectation_of_the_trainers_loss_is_that_of_the_target(tmp_path, tiny_model, tokenizer, two_domains):
    """The mean over every batch of two that the shares can draw, weighted by its probability, is the loss over the
    data (examples of equal length, so that the divisor is the same for each batch)."""
    rows = [row for row in two_domains if len(row["steps"]) == 3][:3] + [two_domains[12]]
    trainer = _trainer(
        tmp_path, tiny_model, tokenizer, rows, domain_ratios={"math": 0.2, "finance": 0.8}, domain_target="data"
    )
    model, data = trainer.model.train(), trainer.train_dataset
    length = min(len(row["input_ids"]) for row in data)

    def of_equal_length(row):
        """The last tokens of an example, all of them targets but the first."""
        cut = {name: row[name][-length:] for name in ("input_ids", "segment_ids", "step_ids", "domain_ids")}
        return cut | {"labels": [-100, *cut["input_ids"][1:]]}

    examples = [of_equal_length(row) for row in data]
    domains = [row["domain_ids"][0] for row in examples]
    plan = trainer.loss_terms.importance.plan = plan_domains(
        {MATH: 3, FINANCE: 1},
        {MATH: length - 1.0, FINANCE: length - 1.0},
        ratios={"math": 0.2, "finance": 0.8},
        target="data",
    )
    chance = [plan.ratios[domain] / domains.count(domain) for domain in domains]

    def loss(batch, training=True):
        batch = trainer._prepare_inputs(trainer.data_collator(batch))
        model.train(training)
        items = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
        return trainer.compute_loss(model, batch, num_items_in_batch=items)

    expected = loss(examples, training=False)  # evaluation has no importance weights: the plain mean of the data
    pairs = list(itertools.product(range(4), repeat=2))
    found = sum(chance[i] * chance[j] * loss([examples[i], examples[j]]) for i, j in pairs)
    plain = sum(chance[i] * chance[j] * loss([examples[i], examples[j]], training=False) for i, j in pairs)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    assert abs(plain.item() - expected.item()) > 1e-4


def test_training_draws_by_the_shares(tmp_path, tiny_model, tokenizer, two_domains, caplog):
    with caplog.at_level(logging.WARNING):
        trainer = _trainer(tmp_path, tiny_model, tokenizer, two_domains, domain_temperature=1e6, max_steps=4)
    assert "finance: 4 examples (25.0%), drawn 50.0%" in caplog.text
    seen = []
    collate = trainer.data_collator

    def counting(examples):
        seen.extend(example["domain_ids"][0] for example in examples)
        return collate(examples)

    trainer.data_collator = counting
    trainer.train()
    assert (seen.count(MATH), seen.count(FINANCE)) == (8, 8)


def test_one_batch_of_eight_is_eight_of_one(tmp_path, tiny_model, tokenizer, two_domains):
    weights = {"domain_ratios": {"math": 0.5, "finance": 0.5}, "domain_target": "data", "thought_weight": 0.5}
    assert_accumulation_changes_nothing(partial(_trainer, tmp_path, tiny_model, tokenizer, two_domains, **weights))


def test_packed_rows_hold_one_domain_each(tmp_path, tiny_model, tokenizer, two_domains):
    trainer = _trainer(
        tmp_path, tiny_model, tokenizer, two_domains, packing=True, domain_temperature=5.0, max_length=256
    )
    rows = trainer.train_dataset["domain_ids"]
    assert all(len(set(row)) == 1 for row in rows)
    assert {row[0] for row in rows} == {MATH, FINANCE}
    assert len(rows) < len(two_domains)
    trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain_ratios": {"legal": 1, "math": 1, "finance": 1}}, r"no record of legal.*math \(12\)"),
        ({"domain_ratios": {"math": 1}}, "does not name finance"),
        ({"domain_ratios": {"math": 1, "finance": 0}, "domain_target": "data"}, "needs finance"),
        ({"domain_ratios": {"magic": 1}}, "no domain magic"),
        ({"domain_ratios": {"math": 1}, "domain_temperature": 2.0}, "Give one"),
        ({"domain_temperature": 0.0}, "above 0"),
        ({"domain_temperature": 2.0, "train_sampling_strategy": "sequential"}, "sequential"),
        ({"curriculum": "steps", "packing": True}, "packing=False"),
        ({"curriculum": "luck"}, "steps, length, pass_rate or size"),
        ({"curriculum": "pass_rate"}, "difficulty_from belong together"),
        ({"difficulty_from": "traces"}, "difficulty_from belong together"),
        ({"curriculum": "steps", "curriculum_stages": 1}, "2 or more"),
    ],
)
def test_bad_options_are_refused(tmp_path, tiny_model, tokenizer, two_domains, options, message):
    with pytest.raises(ValueError, match=message):
        _trainer(tmp_path, tiny_model, tokenizer, two_domains, **options)


def test_streamed_data_are_refused(tmp_path, tiny_model, tokenizer, two_domains):
    args = CoTSFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_steps=1, curriculum="steps", report_to="none")
    stream = Dataset.from_list(two_domains).to_iterable_dataset()
    with pytest.raises(ValueError, match="streamed"):
        CoTSFTTrainer(copy.deepcopy(tiny_model), args, train_dataset=stream, processing_class=tokenizer)


def test_curriculum_by_steps_is_kept_over_a_resume(tmp_path, tiny_model, tokenizer, records):
    """Few steps first; a run that goes on from a checkpoint repeats the losses of the uninterrupted one."""
    options = {
        "curriculum": "steps",
        "curriculum_stages": 2,
        "curriculum_ratio": 1.0,
        "max_steps": 6,
        "seed": 5,
        "save_strategy": "steps",
        "save_steps": 2,
        "per_device_train_batch_size": 8,
        "train_sampling_strategy": "group_by_length",
    }
    make = partial(_trainer, tmp_path, tiny_model, tokenizer, records, **options)
    whole, hardest = make(), []
    collate = whole.data_collator
    whole.data_collator = lambda rows: hardest.append(max(max(row["step_ids"]) for row in rows)) or collate(rows)
    whole.train()
    steps = sorted(len(record["steps"]) for record in records)
    assert max(hardest[:3]) - 1 <= steps[len(steps) // 2 - 1] < max(hardest[3:]) - 1
    resumed = make()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert logged(resumed) == pytest.approx(logged(whole), abs=1e-6)


def test_curriculum_by_pass_rate(tmp_path, tiny_model, tokenizer, records):
    """What a teacher solves most often comes first; the column with the rates does not reach the model."""
    rates = {record["id"]: place / len(records) for place, record in enumerate(records)}
    rows = [
        {"id": name, "sample": sample, "correct": sample < round(60 * rate)}
        for name, rate in rates.items()
        for sample in range(60)
    ]
    (tmp_path / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = {
        "curriculum": "pass_rate",
        "difficulty_from": str(tmp_path),
        "curriculum_stages": 2,
        "curriculum_ratio": 1.0,
        "max_steps": 4,
        "per_device_train_batch_size": 8,
    }
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, **options)
    assert set(trainer.train_dataset.column_names) == {"input_ids", "labels", "segment_ids", "step_ids"}
    drawn = list(trainer._get_train_sampler())
    assert len(set(drawn[:16])) > 8 and min(drawn[:16]) >= 30 and min(drawn[16:32]) < 30
    trainer.train()
    with pytest.raises(ValueError, match="none of its 60 pass rates is of a record"):
        _trainer(tmp_path, tiny_model, tokenizer, [{**row, "id": "x"} for row in records], **options)
