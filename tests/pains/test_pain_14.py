"""Pain 14, huggingface/trl#3351: ZeRO-3 breaks with a teacher.

TRL prepares its teachers apart by now, with the helper that is used here. Real processes under ZeRO-3 train in
tests/trainers/test_distill_zero.py, which is slow and needs DeepSpeed.
"""

import pytest
from accelerate.utils import DistributedType
from tiny import tiny_qwen2

from hf_reason.teachers import prepare_teacher_model


class Accelerator:
    """An accelerator whose `prepare` is the student's alone."""

    device = "cpu"

    def __init__(self, kind):
        self.distributed_type = kind

    def prepare(self, *models):
        raise AssertionError("the teacher was tied to the student's engine")

    prepare_model = prepare


@pytest.mark.parametrize(
    ("kind", "module", "helper"),
    [
        (DistributedType.DEEPSPEED, "trl.models", "prepare_deepspeed"),
        (DistributedType.FSDP, "trl.models.utils", "prepare_fsdp"),
    ],
)
def test_the_teacher_gets_an_engine_of_its_own(monkeypatch, tokenizer, kind, module, helper):
    teacher, made = tiny_qwen2(tokenizer, seed=1), []
    monkeypatch.setattr(f"{module}.{helper}", lambda model, accelerator: made.append(model) or "engine")
    assert prepare_teacher_model(teacher, Accelerator(kind)) == "engine" and made == [teacher]
    assert not teacher.training and not any(parameter.requires_grad for parameter in teacher.parameters())
