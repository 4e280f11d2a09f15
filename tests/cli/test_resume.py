"""Resuming: from which checkpoint, under which settings, and what counts as finished."""

import copy
import json

import pytest
import torch
from datasets import Dataset

from hf_reason.cli import resume
from hf_reason.cli.arguments import DataArguments
from hf_reason.cli.generation_arguments import EvaluationArguments
from hf_reason.cli.resume import is_finished, refuse_without_weights, same_settings_or_refuse
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.resuming import last_checkpoint, train_or_resume


def _checkpoint(folder, step, state=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    if state:
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return str(path)


def test_weights_of_a_finished_run_that_are_gone_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no model.safetensors or adapter_model.safetensors"):
        refuse_without_weights(str(tmp_path))
    (tmp_path / "training_args.bin").write_text("")
    with pytest.raises(ValueError, match="weights are gone"):
        refuse_without_weights(str(tmp_path))
    (tmp_path / "model-1.safetensors").write_text("")
    refuse_without_weights(str(tmp_path))
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"there is no model-2.safetensors\."):
        refuse_without_weights(str(tmp_path))


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


def test_resuming_with_other_settings_is_refused(tmp_path):
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
            copy.deepcopy(tiny_model), args, train_dataset=Dataset.from_list(records[:8]), processing_class=tokenizer
        )

    first = trainer()
    train_or_resume(first)
    again = trainer()
    train_or_resume(again)
    assert again.state.global_step == 2
    assert not (tmp_path / "out" / "checkpoint-3").exists()
    for left, right in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_run_without_a_test_split_is_finished_too(tmp_path):
    args = _groups(tmp_path, max_steps=6)
    same_settings_or_refuse(args, args)
    assert not is_finished(args.output_dir)
    resume.mark_finished(args, 6)
    assert is_finished(args.output_dir)
    # a run of version 0.1 is finished when it has been evaluated
    old = tmp_path / "old"
    (old / "evaluation").mkdir(parents=True)
    (old / "run.json").write_text('{"seed": "42"}')
    assert not is_finished(str(old))
    (old / "evaluation" / "evaluation.json").write_text("{}")
    assert is_finished(str(old))


def test_a_finished_run_is_not_trained_longer(tmp_path):
    args = _groups(tmp_path, max_steps=6)
    same_settings_or_refuse(args, args)
    resume.mark_finished(args, 6)
    for steps in (6, 3):
        resume.refuse_more(_groups(tmp_path, max_steps=steps))
    with pytest.raises(ValueError, match="finished at step 6, you asked for 9. Remove the folder to train anew, or"):
        resume.refuse_more(_groups(tmp_path, max_steps=9))
    # stopped early by a callback: the same command is no request for more
    resume.mark_finished(_groups(tmp_path, max_steps=20), 8)
    resume.refuse_more(_groups(tmp_path, max_steps=20))
    epochs = _groups(tmp_path / "epochs", num_train_epochs=2)
    same_settings_or_refuse(epochs, epochs)
    resume.mark_finished(epochs, 8)
    resume.refuse_more(epochs)
    with pytest.raises(ValueError, match="asked for 3 epochs instead of 2"):
        resume.refuse_more(_groups(tmp_path / "epochs", num_train_epochs=3))


def test_own_fields_say_themselves_whether_they_may_change(tmp_path):
    args = _groups(tmp_path)
    first = (DataArguments(dataset_name="data", expected_world_size=1), EvaluationArguments(max_test_records=5), args)
    same_settings_or_refuse(args, *first)
    _checkpoint(tmp_path / "out", 2)
    other = (DataArguments(dataset_name="data", expected_world_size=2), EvaluationArguments(max_test_records=9), args)
    same_settings_or_refuse(args, *other)
    with pytest.raises(ValueError, match=r'domain: "all" -> "math"'):
        same_settings_or_refuse(args, DataArguments(dataset_name="data", domain="math"), EvaluationArguments(), args)


def test_resuming_on_other_records_is_refused(tmp_path, records, capsys):
    args = _groups(tmp_path)
    same_settings_or_refuse(args, args)
    rows = Dataset.from_list(records[:6])
    resume.same_records_or_refuse(args, rows)
    resume.same_records_or_refuse(args, rows.select(range(4)))  # nothing was trained yet
    _checkpoint(tmp_path / "out", 2)
    resume.same_records_or_refuse(args, rows.select(range(4)))
    with pytest.raises(ValueError, match="began with other training records"):
        resume.same_records_or_refuse(args, rows)
    resume.mark(args.output_dir, world_size=8)
    resume.same_records_or_refuse(args, rows.select(range(4)))
    assert "began with 8 processes and is resumed with 1" in capsys.readouterr().err


def test_same_ids_with_other_texts_are_noticed_on_resume(tmp_path, records):
    """The id is made of context, task and answer alone."""
    args = _groups(tmp_path)
    same_settings_or_refuse(args, args)
    rows = Dataset.from_list(records[:6])
    resume.same_records_or_refuse(args, rows, {"math": "{context}"})
    _checkpoint(tmp_path / "out", 2)
    resume.same_records_or_refuse(args, rows.map(lambda row: {"source": "elsewhere"}), {"math": "{context}"})
    others = {
        "steps": rows.map(lambda row: {"steps": [*row["steps"], "再检查一遍。"]}),
        "split": rows.map(lambda row: {"steps": ["".join(row["steps"])]}),
        "domains": rows.map(lambda row: {"domain": "finance"}),
        "order": rows.select(range(5, -1, -1)),
    }
    for other in others.values():
        with pytest.raises(ValueError, match="began with other training records"):
            resume.same_records_or_refuse(args, other, {"math": "{context}"})
    with pytest.raises(ValueError, match="instruction templates"):
        resume.same_records_or_refuse(args, rows, {"math": "请计算:{context}"})
    # a run of version 0.2.0 has the ids alone
    path = tmp_path / "out" / "run.json"
    path.write_text(json.dumps({name: v for name, v in json.loads(path.read_text()).items() if name != "content"}))
    resume.same_records_or_refuse(args, others["steps"])


def test_the_list_for_other_libraries_has_only_fields_that_exist():
    from dataclasses import fields

    assert {item.name for item in fields(CoTSFTConfig)} >= resume.MAY_CHANGE


def test_no_secret_and_no_path_is_written(tmp_path):
    folder = tmp_path / "private" / "data"
    folder.mkdir(parents=True)
    args = _groups(tmp_path, hub_token="hf_secret1", model_init_kwargs={"token": "hf_secret2", "dtype": "float32"})
    same_settings_or_refuse(args, args, DataArguments(dataset_name=str(folder)))
    text = (tmp_path / "out" / "run.json").read_text()
    assert "secret" not in text and str(tmp_path) not in text
    settings = json.loads(text)["settings"]
    assert settings["dataset_name"].startswith('["data#') and "float32" in settings["model_init_kwargs"]
    # a run of version 0.1 wrote paths as they are
    written = tmp_path / "out" / "run.json"
    written.write_text(json.dumps({**settings, "dataset_name": json.dumps([str(folder)]), "seed": "42"}))
    _checkpoint(tmp_path / "out", 1)
    same_settings_or_refuse(args, args, DataArguments(dataset_name=str(folder)))
    # another folder of the same name is noticed
    _checkpoint(tmp_path / "out", 2)
    same_settings_or_refuse(args, args, DataArguments(dataset_name=f"{folder}/"))
    with pytest.raises(ValueError, match="dataset_name"):
        same_settings_or_refuse(args, args, DataArguments(dataset_name=str(tmp_path / "other" / "data")))


def test_run_that_failed_before_its_first_checkpoint_does_not_block_the_corrected_one(tmp_path):
    wrong = _groups(tmp_path, max_length=8)
    same_settings_or_refuse(wrong, wrong)
    (tmp_path / "out" / "tokenizer").mkdir()
    mended = _groups(tmp_path, max_length=512)
    same_settings_or_refuse(mended, mended)
    assert not (tmp_path / "out" / "tokenizer").exists()
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["max_length"] == "512"
