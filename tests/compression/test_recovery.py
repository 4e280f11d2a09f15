"""Recovery of a pruned model: killed while it saved, or after its last step, it ends as an unbroken one."""

import copy
import logging
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tiny import save_model, tiny_settings
from transformers import AutoModelForCausalLM

from hf_reason.compression import prune_weights, pruned_fraction, recover


@pytest.fixture
def again(tiny_model, tokenizer, records, tmp_path):
    """Recover the same pruned model in the same folder, and return its weights."""
    pruned = copy.deepcopy(tiny_model)
    prune_weights(pruned, 0.5)
    teacher = save_model(tmp_path / "teacher", tiny_model, tokenizer)
    settings = tiny_settings(tmp_path / "recovery", max_steps=4, save_strategy="steps")
    settings = {name: settings[name] for name in settings if name not in ("output_dir", "max_steps")}

    def run():
        model = copy.deepcopy(pruned)
        whole = AutoModelForCausalLM.from_pretrained(teacher)
        data = Dataset.from_list(records[:16])
        where = {"output_dir": tmp_path / "recovery", "max_steps": 4, "keep_zeros": "attention"}
        found = recover(model, whole, tokenizer, data, **where, **{**settings, "per_device_train_batch_size": 2})
        assert pruned_fraction(found) == 0.5
        return {name: value.clone() for name, value in found.state_dict().items()}

    return run


def test_killed_after_its_last_step_it_trains_no_further(again, tmp_path):
    first = again()
    second = again()  # the checkpoint of step 4 is there; transformers alone would train a fifth step
    assert all(first[name].equal(second[name]) for name in first)


def test_killed_while_it_saved_it_resumes_from_the_whole_checkpoint(again, tmp_path):
    folder = tmp_path / "recovery"
    first = again()
    shutil.rmtree(folder)
    half = Path(folder, "checkpoint-3")  # the Trainer writes its state last
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    second = again()
    assert all(first[name].equal(second[name]) for name in first)


def test_half_precision_is_trained_in_float32(tiny_model, tokenizer, records, tmp_path):
    """The same weights as from a float32 copy, rounded once at the end; steps in bfloat16 would be lost one by one."""
    prune_weights(tiny_model, 0.5)
    half = copy.deepcopy(tiny_model).bfloat16()
    before = {name: value.clone() for name, value in half.state_dict().items()}
    settings = tiny_settings(tmp_path, learning_rate=1e-4, save_strategy="no")
    settings = {name: value for name, value in settings.items() if name not in ("output_dir", "max_steps")}
    whole = save_model(tmp_path / "whole", tiny_model, tokenizer)
    ends = []
    for number, start in enumerate((half, copy.deepcopy(half).float())):
        where = {"output_dir": tmp_path / str(number), "max_steps": 4, "keep_zeros": "attention"}
        teacher = AutoModelForCausalLM.from_pretrained(whole)
        ends.append(recover(start, teacher, tokenizer, Dataset.from_list(records[:16]), **where, **settings))
    assert {value.dtype for value in ends[0].parameters()} == {torch.bfloat16}
    assert pruned_fraction(ends[0]) == 0.5
    for name, value in ends[1].named_parameters():
        assert ends[0].get_parameter(name).equal(value.bfloat16()), name
    assert any(not value.equal(before[name]) for name, value in ends[0].state_dict().items())


def test_what_makes_it_worse_is_not_kept(tiny_model, tokenizer, records, tmp_path, caplog):
    """A step that is far too large: the weights are those before, bit for bit, and the log has both figures."""
    teacher = AutoModelForCausalLM.from_pretrained(save_model(tmp_path / "whole", tiny_model, tokenizer))
    prune_weights(tiny_model, 0.2)
    settings = tiny_settings(tmp_path, learning_rate=1.0, save_strategy="no", lr_scheduler_type="constant")
    settings = {name: value for name, value in settings.items() if name not in ("output_dir", "max_steps")}
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    seen = []
    where = {"output_dir": tmp_path / "recovery", "max_steps": 2, "keep_zeros": "attention"}
    where["report"] = lambda *figures: seen.append(figures)
    with caplog.at_level(logging.WARNING, logger="hf_reason"):
        found = recover(tiny_model, teacher, tokenizer, Dataset.from_list(records[:40]), **where, **settings)
    assert all(value.equal(before[name]) for name, value in found.state_dict().items())
    ((first, last),) = seen
    assert 0 < first < last
    assert "is not kept: a KL of" in caplog.text and "lower learning rate" in caplog.text
