"""Which checkpoint a stopped run goes on from."""

import copy
import json

import pytest
import torch
from datasets import Dataset

from hf_reason.cli import is_finished, last_checkpoint, same_settings_or_refuse, train_or_go_on
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


def _checkpoint(folder, step, state=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    if state:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return str(path)


def test_no_folder_and_no_checkpoint(tmp_path):
    assert last_checkpoint(str(tmp_path / "none")) is None
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(str(tmp_path)) is None


def test_newest_complete_checkpoint_by_number(tmp_path):
    _checkpoint(tmp_path, 9)
    newest = _checkpoint(tmp_path, 100)
    assert last_checkpoint(str(tmp_path)) == newest


def test_checkpoint_of_a_run_killed_while_saving_is_passed_over(tmp_path):
    complete = _checkpoint(tmp_path, 10)
    _checkpoint(tmp_path, 20, state=False)
    (tmp_path / "checkpoint-30").mkdir()
    (tmp_path / "checkpoint-30" / "trainer_state.json").write_text('{"global_st')
    assert last_checkpoint(str(tmp_path)) == complete


def _groups(tmp_path, **overrides):
    return CoTSFTConfig(str(tmp_path / "out"), report_to="none", use_cpu=True, **overrides)


def test_going_on_with_other_settings_is_refused(tmp_path):
    first = _groups(tmp_path)
    same_settings_or_refuse(first, first)
    (tmp_path / "out").mkdir(exist_ok=True)
    _checkpoint(tmp_path / "out", 2)
    longer = _groups(tmp_path, max_steps=7, logging_steps=3)
    same_settings_or_refuse(longer, longer)
    other = _groups(tmp_path, seed=5, thought_weight=0.5)
    with pytest.raises(ValueError, match=r"seed: 42 -> 5; thought_weight: 1.0 -> 0.5.*start anew"):
        same_settings_or_refuse(other, other)


def test_run_that_reached_max_steps_takes_no_further_step(tmp_path, tiny_model, tokenizer, records):
    def trainer():
        args = _groups(
            tmp_path,
            max_steps=2,
            save_steps=2,
            save_strategy="steps",
            per_device_train_batch_size=2,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        return CoTSFTTrainer(
            copy.deepcopy(tiny_model), args, Dataset.from_list(records[:8]), processing_class=tokenizer
        )

    first = trainer()
    train_or_go_on(first)
    again = trainer()
    train_or_go_on(again)
    assert again.state.global_step == 2
    assert not (tmp_path / "out" / "checkpoint-3").exists()
    for left, right in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_finished_means_trained_and_evaluated(tmp_path):
    assert not is_finished(str(tmp_path))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "evaluation.json").write_text("{}")
    assert is_finished(str(tmp_path))


def test_run_that_failed_before_its_first_checkpoint_does_not_block_the_mended_one(tmp_path):
    wrong = _groups(tmp_path, max_length=8)
    same_settings_or_refuse(wrong, wrong)
    (tmp_path / "out" / "tokenizer").mkdir()
    mended = _groups(tmp_path, max_length=512)
    same_settings_or_refuse(mended, mended)
    assert not (tmp_path / "out" / "tokenizer").exists()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["max_length"] == "512"
