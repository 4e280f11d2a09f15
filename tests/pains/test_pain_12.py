"""Pain 12, huggingface/trl#4719: the loss changes with the number of accumulated batches.

TRL has fixed it in `GKDTrainer` and `DistillationTrainer`; the loss against a server still divides batch by batch.
"""

from functools import partial

import pytest
import torch
from tiny import assert_accumulation_changes_nothing, tiny_qwen2, tiny_trainer

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig, DistillKLTrainer


@pytest.mark.filterwarnings("ignore")
def test_the_plain_loss_against_a_server_depends_on_the_split():
    from trl.experimental.server_distillation import ServerDistillationTrainer

    reduce = ServerDistillationTrainer._reduce_divergence_loss
    losses, mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [5.0, 0, 0, 0]]), torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    whole = reduce(losses, completion_mask=mask.bool())
    split = torch.stack([reduce(losses[i : i + 1], completion_mask=mask[i : i + 1].bool()) for i in range(2)]).mean()
    assert whole != split


@pytest.mark.parametrize("job", ["sft", "distil"])
def test_one_by_eight_is_eight_by_one_with_uneven_lengths(tmp_path, tiny_model, tokenizer, records, job):
    uneven = sorted(records, key=lambda record: len(record["steps"]))
    uneven = uneven[:4] + uneven[-4:]
    classes, options, settings = (CoTSFTTrainer, CoTSFTConfig), {}, {"step_weighting": "step"}
    if job == "distil":
        classes, settings = (DistillKLTrainer, DistillKLConfig), {"beta": 0.5}
        options = {"teacher_model": tiny_qwen2(tokenizer, seed=1), "teacher_tokenizer": tokenizer}
    make = partial(
        tiny_trainer, *classes, tmp_path, tiny_model, tokenizer, uneven, trainer_options=options, **settings
    )
    assert_accumulation_changes_nothing(make)
