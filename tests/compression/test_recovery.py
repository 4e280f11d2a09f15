"""Recovery of a pruned model: killed while it saved, or after its last step, it ends as an unbroken one."""

import copy
import shutil
from pathlib import Path

import pytest
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
