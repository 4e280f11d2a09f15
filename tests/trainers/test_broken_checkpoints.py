"""Checkpoints with files that are missing or cut off, times that lie ahead, and losses that are no numbers."""

import logging
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import logged, tiny_trainer
from trl import SFTTrainer

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.checkpoint_parts import broken_part
from hf_reason.trainers.finite import NoNumberError
from hf_reason.trainers.resuming import last_checkpoint, train_or_resume

SAVED = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}


@pytest.fixture
def trainer(tmp_path, tiny_model, tokenizer, records):
    def make(name="out", **settings):
        return tiny_trainer(
            CoTSFTTrainer, CoTSFTConfig, tmp_path / name, tiny_model, tokenizer, records[:16], **{**SAVED, **settings}
        )

    return make


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        ("model.safetensors", _cut, "model.safetensors is cut off"),
        ("model.safetensors", Path.unlink, "its weights are missing"),
        ("model.safetensors", lambda path: path.write_bytes(b""), "model.safetensors is cut off"),
        ("optimizer.pt", _cut, "optimizer.pt is cut off"),
        ("optimizer.pt", Path.unlink, "optimizer.pt is missing"),
        ("scheduler.pt", Path.unlink, "scheduler.pt is missing"),
        ("rng_state.pth", Path.unlink, "rng_state.pth is missing"),
        ("trainer_state.json", _cut, "the run was killed while it saved"),
    ],
)
def test_the_one_before_a_broken_checkpoint_is_resumed_and_said(finished, trainer, caplog, name, damage, what):
    whole, folder = finished
    shutil.copytree(folder, trainer().args.output_dir, dirs_exist_ok=True)
    newest = Path(trainer().args.output_dir, "checkpoint-4")
    assert last_checkpoint(str(newest.parent)) == str(newest)
    damage(newest / name)
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(str(newest.parent)) == str(newest.with_name("checkpoint-2"))
    assert f"checkpoint-4 is incomplete ({what}); an earlier one is used." in caplog.text
    if damage is _cut:
        resumed = trainer()
        train_or_resume(resumed)
        assert logged(resumed) == whole and broken_part(newest) is None, "it is written again"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, _session_tokenizer, records):
    """The losses of a run of four steps, and its folder."""
    from tiny import tiny_qwen2

    folder = tmp_path_factory.mktemp("whole")
    made = tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, folder, tiny_qwen2(_session_tokenizer), _session_tokenizer, records[:16], **SAVED
    )
    made.train()
    return logged(made), folder


def test_a_shard_that_is_missing(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2 and broken_part(tmp_path) is None
    shards[1].unlink()
    assert broken_part(tmp_path) == f"{shards[1].name} is missing"
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a')
    assert broken_part(tmp_path) == "model.safetensors.index.json is cut off"


def test_checkpoints_of_other_layouts_pass(tmp_path, tiny_model):
    """Of an adapter, of weights alone, of FSDP's and DeepSpeed's kinds."""
    (tmp_path / "global_step4").mkdir()
    (tmp_path / "scheduler.pt").write_bytes(b"old pickle")
    assert broken_part(tmp_path) is None
    for name, files in {
        "fsdp": {"config.json": b"{}", "pytorch_model_fsdp.bin": b"x", "optimizer.bin": b"x", "scheduler.pt": b"x"},
        "only_model": {"config.json": b"{}"},
        "adapter": {"adapter_config.json": b"{}", "optimizer.pt": b"x", "scheduler.pt": b"x"},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in {**files, "rng_state_0.pth": b"x", "rng_state_1.pth": b"x"}.items():
            (folder / file).write_bytes(content)
        if name != "fsdp":
            assert broken_part(folder) == "its weights are missing"
            tiny_model.save_pretrained(folder)
        assert broken_part(folder) is None, name


def test_a_clock_that_jumped_back_costs_no_new_checkpoint(trainer):
    """`save_total_limit` goes by the times of the folders."""
    first = trainer(max_steps=2, save_steps=1)
    first.train()
    output = Path(first.args.output_dir)
    ahead = time.time() + 3600
    for name in ("checkpoint-1", "checkpoint-2"):
        os.utime(output / name, (ahead, ahead))
    more = trainer(max_steps=6, save_steps=1, save_total_limit=2)
    train_or_resume(more)
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]


@pytest.mark.parametrize("step", [1, 3])
def test_a_loss_that_is_no_number_ends_the_training(trainer, monkeypatch, step):
    compute = SFTTrainer.compute_loss

    def infinite(self, *args, **kwargs):
        return compute(self, *args, **kwargs) * (float("inf") if self.state.global_step + 1 == step else 1)

    monkeypatch.setattr(SFTTrainer, "compute_loss", infinite)
    made = trainer(save_steps=1, logging_steps=4)
    with pytest.raises(NoNumberError, match=f"the loss of step {step} is NaN or infinite. No checkpoint was written"):
        made.train()
    saved = last_checkpoint(made.args.output_dir)
    assert saved is None if step == 1 else saved.endswith("checkpoint-2")


def test_weights_that_are_no_numbers_are_not_saved(trainer, tmp_path):
    made = trainer(max_steps=1, save_strategy="no")
    made.train()
    with torch.no_grad():
        made.model.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(NoNumberError, match=r"the weight .*(lm_head|embed_tokens).* is NaN"):
        made.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_batches_without_a_target_change_nothing(tmp_path, tiny_model, tokenizer, records):
    """An epoch without any is refused; a batch without one has a loss of 0, not of NaN, and moves no weight."""
    bare = [{**record, "steps": []} for record in records[:4]]
    settings = {
        "answer_weight": 0.0,
        "max_steps": 2,
        "train_sampling_strategy": "sequential",
        "optim": "sgd",
        "save_strategy": "steps",
        "save_steps": 1,
    }

    def make(rows):
        return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, rows, **settings)

    with pytest.raises(ValueError, match="no token counts in the loss"):
        make(bare)
    made = make([*bare, *records[4:8]])
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.train()
    assert logged(made)[0] == 0 < logged(made)[1]
    first = load_file(tmp_path / "checkpoint-1" / "model.safetensors")
    assert all(before[name].equal(value) for name, value in first.items())
    assert not all(before[name].equal(value) for name, value in made.model.state_dict().items())
