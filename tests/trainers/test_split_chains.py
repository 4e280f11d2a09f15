"""overlong="split": over-long records train as pieces, packed or not, with a live teacher, and never from a cache."""

import copy
import logging
from contextlib import suppress

import pytest
import torch
from datasets import IterableDataset
from tiny import tiny_settings, tiny_trainer

from hf_reason.text import encode, encode_prompt, split_record
from hf_reason.text.long_chains import StepTooLong, split_encoded
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer
from hf_reason.trainers.on_policy import prompts_of


def _trainer(tmp_path, model, tokenizer, records, dataset=None, cls=CoTSFTTrainer, config=CoTSFTConfig, **options):
    teacher = {"teacher_model": options.pop("teacher"), "teacher_tokenizer": tokenizer} if "teacher" in options else {}
    rows = dataset or records
    return tiny_trainer(cls, config, tmp_path, model, tokenizer, rows, None, teacher, overlong="split", **options)


def _limit(records, tokenizer) -> int:
    """The least room (to 8 tokens) in which every record can be split with two steps of context."""
    encoded = [encode(record, tokenizer) for record in records]
    for limit in range(96, 1024, 8):
        with suppress(StepTooLong):
            for example in encoded:
                split_encoded(example, tokenizer, limit, 2)
            return limit
    raise AssertionError("no limit will do")


def _targets(rows) -> int:
    return sum(label != -100 for row in rows for label in row["labels"])


def _loss(trainer) -> float:
    rows = [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    batch = trainer._prepare_inputs(trainer.data_collator(rows))
    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, batch).item()


def test_every_target_is_trained_once_and_the_log_says_so(tmp_path, tiny_model, tokenizer, records, caplog):
    limit = _limit(records, tokenizer)
    with caplog.at_level(logging.WARNING):
        trainer = _trainer(tmp_path, tiny_model, tokenizer, records, max_length=limit, overlap_steps=2)
    report, rows = trainer.length_reports["train"], list(trainer.train_dataset)
    expected = [piece for record in records for piece in split_record(record, tokenizer, limit, 2)]
    assert [row["input_ids"] for row in rows] == [piece["input_ids"] for piece in expected]
    assert set(rows[0]) == {"input_ids", "labels", "segment_ids", "step_ids"}
    assert _targets(rows) == _targets(encode(record, tokenizer) for record in records)
    assert report.overlong > 0 and report.unsplit == 0
    assert len(rows) == len(records) - report.overlong + report.pieces
    assert f"{report.overlong} split at step boundaries into {report.pieces} pieces" in caplog.text
    trainer.train()  # the check of the first batch lets pieces without an answer pass


@pytest.mark.parametrize("weighting", [{}, {"step_weighting": "step", "answer_weight": 0.5}])
def test_packed_pieces_have_the_loss_of_padded_ones(tmp_path, tiny_model, tokenizer, records, weighting):
    options = {"max_length": _limit(records, tokenizer), **weighting}
    padded = _trainer(tmp_path, tiny_model, tokenizer, records, **options)
    packed = _trainer(tmp_path, tiny_model, tokenizer, records, packing=True, **options)
    assert len(packed.train_dataset) <= len(padded.train_dataset)
    assert _targets(packed.train_dataset) == _targets(padded.train_dataset)
    assert _loss(padded) == pytest.approx(_loss(packed), abs=1e-5)


def test_a_step_that_is_too_long_drops_its_record(tmp_path, tiny_model, tokenizer, records, caplog):
    limit = _limit(records, tokenizer)
    long = {**records[0], "steps": [*records[0]["steps"], "又加上1个苹果。" * 100]}
    with caplog.at_level(logging.WARNING):
        trainer = _trainer(tmp_path, tiny_model, tokenizer, [*records[1:], long], max_length=limit)
    assert trainer.length_reports["train"].unsplit == 1
    assert "1 dropped, which have a step that does not fit" in caplog.text
    assert _targets(trainer.train_dataset) == _targets(encode(record, tokenizer) for record in records[1:])
    with pytest.raises(ValueError, match="no example fits into max_length"):
        _trainer(tmp_path, tiny_model, tokenizer, records, max_length=8)


def test_a_last_piece_without_the_end_of_turn_is_still_refused(tmp_path, tiny_model, tokenizer, records):
    """Pain 4 holds for the pieces that have an answer."""
    limit = _limit(records, tokenizer)
    pieces = [piece for record in records for piece in split_record(record, tokenizer, limit)]
    cut = [
        {name: values[:-1] if 2 in piece["segment_ids"] else values for name, values in piece.items()}
        for piece in pieces
    ]
    with pytest.raises(ValueError, match="does not end in the end-of-turn token"):
        _trainer(tmp_path, tiny_model, tokenizer, cut, max_length=limit).train()


def test_a_first_batch_without_answers_is_passed_over(tmp_path, tiny_model, tokenizer, records):
    limit = _limit(records, tokenizer)
    pieces = [piece for record in records for piece in split_record(record, tokenizer, limit)]
    cut = [{name: values[:-1] for name, values in piece.items()} for piece in pieces if 2 in piece["segment_ids"]]
    trainer = _trainer(tmp_path, tiny_model, tokenizer, pieces, max_length=limit)
    trainer._check_first_batch(trainer.data_collator([p for p in pieces if 2 not in p["segment_ids"]][:4]))
    assert not trainer._first_batch_checked
    with pytest.raises(ValueError, match="does not end in the end-of-turn token"):
        trainer._check_first_batch(trainer.data_collator(cut[:4]))


def test_streamed_records_are_split_too(tmp_path, tiny_model, tokenizer, records):
    limit = _limit(records, tokenizer)
    stream = IterableDataset.from_generator(lambda: iter(records))
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, stream, max_length=limit)
    expected = [piece for record in records for piece in split_record(record, tokenizer, limit)]
    assert [row["input_ids"] for row in trainer.train_dataset] == [piece["input_ids"] for piece in expected]


def test_a_live_teacher_reads_the_pieces(tmp_path, tiny_model, tokenizer, records):
    """A teacher equal to the student: the divergence and the path loss of the pieces are 0."""
    trainer = _trainer(
        tmp_path,
        tiny_model,
        tokenizer,
        records,
        cls=DistillKLTrainer,
        config=DistillKLConfig,
        ce_weight=0.0,
        path_weight=1.0,
        max_length=_limit(records, tokenizer),
        teacher=copy.deepcopy(tiny_model),
    )
    assert trainer.length_reports["train"].pieces > 0
    assert _loss(trainer) == pytest.approx(0, abs=1e-5)


def test_a_cache_is_refused(tmp_path, tiny_model, tokenizer, records, monkeypatch):
    from hf_reason.teachers import TeacherSource
    from hf_reason.trainers import teacher_setup

    monkeypatch.setattr(teacher_setup, "TopKCache", lambda *args, **kwargs: object())
    with pytest.raises(ValueError, match="makes new examples of the records, which a cache holds whole"):
        _trainer(
            tmp_path / "run",
            tiny_model,
            tokenizer,
            records,
            cls=DistillKLTrainer,
            config=DistillKLConfig,
            teacher=TeacherSource("cache", str(tmp_path)),
        )


def test_on_policy_students_begin_a_split_chain_at_its_first_step(tmp_path, tiny_model, tokenizer, records):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, records, max_length=_limit(records, tokenizer))
    pieces = [row for row in trainer.train_dataset if row["step_ids"][row["segment_ids"].index(1)] > 1]
    batch = trainer.data_collator(pieces[:4])
    known = {tuple(encode_prompt(record, tokenizer)) for record in records}
    opening = tokenizer("<think>\n", add_special_tokens=False)["input_ids"]
    for prompt in prompts_of(batch):
        assert prompt[-len(opening) :] == opening
        assert tuple(prompt[: -len(opening)]) in known


def test_settings_that_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="overlap_steps must not be negative, got -1"):
        CoTSFTConfig(**tiny_settings(tmp_path, overlong="split", overlap_steps=-1))
    with pytest.raises(ValueError, match="overlong='split' needs a max_length"):
        CoTSFTConfig(**tiny_settings(tmp_path, overlong="split", max_length=None))
