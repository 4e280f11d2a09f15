"""Texts longer than a model's positions: dropped by policy, refused or said."""

import copy

import pytest
from tiny import tiny_model, tiny_trainer

from hf_reason.models.context import position_limit
from hf_reason.text import encode
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer


@pytest.mark.parametrize(
    ("model_type", "fields", "expected"),
    [
        ("gpt2", {}, (100, True)),
        ("opt", {}, (100, True)),
        ("gpt_neo", {}, (100, True)),
        ("biogpt", {}, (100, True)),
        ("gpt_bigcode", {}, (100, True)),
        ("gptj", {}, (100, True)),  # computed for as many
        ("mpt", {"max_seq_len": 100}, (100, True)),
        ("xglm", {}, (None, False)),  # its table grows
        ("llama", {}, (100, False)),
        ("gemma3_text", {}, (100, False)),
        (
            "qwen2",
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                    "rope_theta": 1e4,
                }
            },
            (256, False),
        ),
        ("falcon", {}, (100, False)),
        ("falcon_alibi", {}, (None, False)),
        ("bloom", {}, (None, False)),
        ("mamba", {}, (None, False)),
        ("jamba", {}, (None, False)),
    ],
)
def test_positions_of_a_model(tokenizer, model_type, fields, expected):
    own = {} if model_type in ("bloom", "mamba", "mpt") else {"max_position_embeddings": 100}
    assert position_limit(tiny_model(tokenizer, model_type, **{**own, **fields})) == expected


def _trainer(tmp_path, tokenizer, rows, model_type, limit, **settings):
    model = tiny_model(tokenizer, model_type, max_position_embeddings=limit)
    return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, rows, **settings)


def _limit(records, tokenizer):
    lengths = sorted(len(encode(record, tokenizer)["input_ids"]) for record in records)
    return lengths[len(lengths) // 2]


@pytest.mark.parametrize("settings", [{"max_length": None}, pytest.param({"packing": True}, marks=pytest.mark.slow)])
def test_a_table_of_positions_limits_the_length(tmp_path, tokenizer, records, caplog, settings):
    """It was an IndexError at the first long batch."""
    records = records[:16]
    limit = _limit(records, tokenizer)
    args = {"max_length": 512, **settings}
    trainer = _trainer(tmp_path, tokenizer, records, "gpt2", limit, **args)
    assert trainer.args.max_length == limit
    assert f"The model has {limit} positions, so max_length is {limit} here, not {args['max_length']}" in caplog.text
    report = trainer.length_reports["train"]
    assert 0 < report.overlong < report.examples == 16
    trainer.train()
    split = _trainer(tmp_path, tokenizer, records, "gpt2", 150, overlong="split")
    assert split.length_reports["train"].pieces > 0
    with pytest.raises(ValueError, match=f"of max_length={limit}"):
        _trainer(tmp_path, tokenizer, records, "gpt2", limit, overlong="error")


def test_formats_of_trl_are_cut_at_the_table(tmp_path, tokenizer, records):
    rows = [{"text": record["context"] * 3} for record in records[:8]]
    trainer = _trainer(tmp_path, tokenizer, rows, "opt", 40)
    assert {len(row["input_ids"]) for row in trainer.train_dataset} == {40}
    trainer.train()


def test_examples_that_were_tokenised_before_are_refused(tmp_path, tokenizer, records):
    rows = [encode(record, tokenizer) for record in records[:8]]
    with pytest.raises(ValueError, match=r"train data set: 8 of 8 examples are longer than the model's 20 positions"):
        _trainer(tmp_path, tokenizer, rows, "opt", 20)


@pytest.mark.parametrize("packing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_rotary_positions_are_said(tmp_path, tokenizer, records, caplog, packing):
    limit = _limit(records[:8], tokenizer)
    longest = max(len(encode(record, tokenizer)["input_ids"]) for record in records[:8])
    _trainer(tmp_path, tokenizer, records[:8], "llama", limit, packing=packing)
    assert f"examples are longer than the model's {limit} positions (longest: {longest} tokens)" in caplog.text
    caplog.clear()
    _trainer(tmp_path, tokenizer, records[:8], "llama", longest, packing=packing)
    assert "positions" not in caplog.text


def test_positions_of_a_teacher_and_of_written_completions(tmp_path, tokenizer, records, tiny_model):
    from tiny import tiny_model as make

    def distill(student, teacher, **settings):
        options = {"teacher_model": teacher, "teacher_tokenizer": tokenizer}
        return tiny_trainer(
            DistillKLTrainer, DistillKLConfig, tmp_path, student, tokenizer, records[:8], None, options, **settings
        )

    with pytest.raises(ValueError, match="longer than the teacher's 60 positions.*Set max_length=60"):
        distill(tiny_model, make(tokenizer, "opt", max_position_embeddings=60))
    student = make(tokenizer, "gpt2", max_position_embeddings=256)
    with pytest.raises(
        ValueError, match="The model has 256 positions: the longest prompt .* Set max_completion_length="
    ):
        distill(student, copy.deepcopy(tiny_model), lmbda=1.0)
    distill(student, copy.deepcopy(tiny_model), lmbda=1.0, max_completion_length=8).train()
