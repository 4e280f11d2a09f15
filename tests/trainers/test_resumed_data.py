"""What a run writes beside its weights: facts about its data, and nothing private when it pushes a checkpoint."""

import fnmatch
import json
import logging
from functools import partial
from pathlib import Path

import pytest
from datasets import Dataset
from tiny import save_model, tiny_trainer

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.resumed_data import DATA_FILE, fingerprint

SAVING = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture
def run(tmp_path, tiny_model, tokenizer, records):
    """A run of two steps with its checkpoints, and how to make another trainer in its folder."""
    make = partial(tiny_trainer, CoTSFTTrainer, CoTSFTConfig, tmp_path / "out", tiny_model, tokenizer)
    make(records[:8], **SAVING).train()
    return make, str(tmp_path / "out" / "checkpoint-1")


def test_a_resume_on_other_data_is_refused(run, records):
    """The same ids, other steps: the position in the data would mean nothing."""
    make, checkpoint = run
    make(records[:8], **SAVING).train(resume_from_checkpoint=checkpoint)
    others = [
        [{**record, "steps": [*record["steps"], "检查一遍。"]} for record in records[:8]],
        records[7::-1],
        records[:7],
    ]
    for rows in others:
        with pytest.raises(ValueError, match="was trained on other examples.*ignore_data_skip=True"):
            make(rows, **SAVING).train(resume_from_checkpoint=checkpoint)
    make(others[0], **SAVING, ignore_data_skip=True).train(resume_from_checkpoint=checkpoint)


def test_another_order_is_said(run, records, caplog):
    make, checkpoint = run
    with caplog.at_level(logging.WARNING):
        make(records[:8], **SAVING).train(resume_from_checkpoint=checkpoint)
        assert "is resumed with another" not in caplog.text
        trainer = make(records[:8], **SAVING, seed=7, gradient_accumulation_steps=2)
        trainer.train(resume_from_checkpoint=checkpoint)
    assert "examples of a step (batch size x accumulation x processes) 4 -> 8, seed 42 -> 7" in caplog.text
    facts = Path(checkpoint, DATA_FILE)
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "processes": 2}))
    make(records[:8], **SAVING).train(resume_from_checkpoint=checkpoint)
    assert "number of processes 2 -> 1" in caplog.text
    facts.unlink()  # a checkpoint of version 0.2.0
    make(records[:7], **SAVING).train(resume_from_checkpoint=checkpoint)


def test_the_fingerprint_is_that_of_tokens_and_labels():
    rows = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4], "labels": [4]}]
    whole = fingerprint(Dataset.from_list(rows))
    assert fingerprint(Dataset.from_list([{**row, "id": "x"} for row in rows])) == whole
    assert fingerprint(Dataset.from_list([*rows, rows[0]]).select([0, 1])) == whole
    changed = [
        [{"input_ids": [1, 2], "labels": [-100, 2]}, {"input_ids": [3, 4], "labels": [3, 4]}],
        [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}, rows[1]],
        rows[::-1],
    ]
    assert len({whole, *(fingerprint(Dataset.from_list(other)) for other in changed)}) == 4
    assert fingerprint(Dataset.from_list(rows).to_iterable_dataset()) is None


@pytest.mark.parametrize("strategy", ["every_save", "checkpoint"])
def test_a_push_at_a_checkpoint_has_no_secret_and_no_path(
    tmp_path, tiny_model, tokenizer, records, monkeypatch, strategy
):
    """The Trainer pickles its arguments into the folder that it uploads."""
    pushed = {}

    class Api:
        def __getattr__(self, name):
            return lambda *args, **kwargs: type("Made", (), {"repo_id": "me/model"})()

        def upload_folder(self, folder_path, ignore_patterns=(), token=None, **kwargs):
            assert token == "hf_secret"
            for path in Path(folder_path).rglob("*"):
                name = path.relative_to(folder_path).as_posix()
                if path.is_file() and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns):
                    pushed[f"{Path(folder_path).name}/{name}"] = path.read_bytes()
            return type("Job", (), {"done": lambda self: True, "result": lambda self: None})()

    monkeypatch.setattr("transformers.trainer.hf_api", Api)
    settings = {
        "push_to_hub": True,
        "hub_model_id": "me/model",
        "hub_token": "hf_secret",
        "hub_strategy": strategy,
        "model_init_kwargs": {"token": "hf_secret_too"},
    }
    trainer = tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path / "out", tiny_model, tokenizer, records[:8], **SAVING, **settings
    )
    trainer.train()
    assert "out/training_args.bin" in pushed and "out/model.safetensors" in pushed
    assert ("checkpoint-2/trainer_state.json" in pushed) == (strategy == "checkpoint")
    for name, content in pushed.items():
        assert b"hf_secret" not in content and str(tmp_path).encode() not in content, name
    assert trainer.args.hub_token == "hf_secret" and trainer.args.output_dir == str(tmp_path / "out")


def test_a_pushed_adapter_names_no_folder_of_this_machine(tmp_path, tiny_model, tokenizer, records, monkeypatch):
    from peft import LoraConfig

    pushed = {}

    class Api:
        def __getattr__(self, name):
            return lambda *args, **kwargs: type("Made", (), {"repo_id": "me/model"})()

        def upload_folder(self, folder_path, **kwargs):
            pushed.update({path.name: path.read_text() for path in Path(folder_path).glob("*.json")})
            pushed["README.md"] = Path(folder_path, "README.md").read_text()

    monkeypatch.setattr("transformers.trainer.hf_api", Api)
    base = save_model(tmp_path / "base", tiny_model, tokenizer)
    trainer = tiny_trainer(
        CoTSFTTrainer,
        CoTSFTConfig,
        tmp_path / "out",
        base,
        tokenizer,
        records[:8],
        None,
        {"peft_config": LoraConfig(target_modules=["q_proj"])},
        hub_model_id="me/model",
        push_to_hub=True,
        hub_strategy="end",
    )
    trainer.train()
    trainer.push_to_hub()
    assert json.loads(pushed["adapter_config.json"])["base_model_name_or_path"] == "base"
    assert not [name for name, text in pushed.items() if str(tmp_path) in text]
    here = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert here["base_model_name_or_path"] == base, "by which it is loaded here"


def test_the_state_beside_a_model_names_no_path(tmp_path, tiny_model, tokenizer, records):
    """It is pushed with the model; the best checkpoint stands in it."""
    best = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 1}
    trainer = tiny_trainer(
        CoTSFTTrainer,
        CoTSFTConfig,
        tmp_path / "out",
        tiny_model,
        tokenizer,
        records[:8],
        records[:4],
        **SAVING,
        **best,
    )
    trainer.train()
    trainer.save_state()
    text = (tmp_path / "out" / "trainer_state.json").read_text()
    assert json.loads(text)["best_model_checkpoint"] in ("checkpoint-1", "checkpoint-2")
    assert str(tmp_path) not in text
    assert trainer.state.best_model_checkpoint.startswith(str(tmp_path))
