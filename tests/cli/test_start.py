"""What a run says before its first step, and what it refuses or warns about there."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from hf_reason.cli import start
from hf_reason.cli.inputs.datasets import Splits
from hf_reason.data.record import make_record
from hf_reason.text import train_tokenizer


def _trainer(tokenizer, rows, *, examples=10, overlong=0, kind="drop", **args):
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    report = SimpleNamespace(examples=examples, overlong=overlong, overlong_tokens=700 * overlong, unsplit=overlong)
    values = {
        "max_length": 512,
        "overlong": kind,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "world_size": 1,
        "max_steps": -1,
        "num_train_epochs": 2.0,
    }
    return SimpleNamespace(
        args=SimpleNamespace(**{**values, **args}),
        length_reports={"train": report},
        accelerator=SimpleNamespace(unwrap_model=lambda model: model),
        model=model,
        train_dataset=rows,
        processing_class=tokenizer,
    )


def _splits(records):
    rows = Dataset.from_list(records)
    return Splits(rows, None, rows.select(range(3)), [])


def test_the_start_line_says_what_is_trained_on_what(tokenizer, records):
    splits = _splits(records[:10])
    line = start.start_line(_trainer(tokenizer, splits.train, overlong=1), splits, {"math": "{context}"})
    assert "9 training records (1 dropped by max_length=512); 3 test records" in line
    assert "6 of 8 parameters trainable (75.00%)" in line
    assert "4 steps of 8 examples (2 epochs)" in line
    assert "template used for 10 of 10 records" in line
    assert "tokens a character" in line
    assert "7 steps of 8 examples" in start.start_line(_trainer(tokenizer, splits.train, max_steps=7), splits, {})


def test_records_without_a_template_are_counted(records):
    rows = Dataset.from_list([records[0], {**records[1], "domain": "legal"}])
    assert start.template_use(rows, {"math": "x"}) == "template used for 1 of 2 records (none for legal)"
    assert start.template_use(rows, {"math": "x", "default": "y"}) == "template used for 2 of 2 records"


@pytest.mark.parametrize("kind", ["drop", "split"])
def test_most_of_the_data_dropped_is_refused(tokenizer, records, kind):
    trainer = _trainer(tokenizer, records, overlong=3, kind=kind, max_length=130)
    with pytest.raises(
        ValueError, match=r"max_length=130 drops 3 of 10 training records \(30%.*700 tokens on average"
    ):
        start.check_dropped(trainer, 0.2)
    start.check_dropped(trainer, 0.3)
    start.check_dropped(_trainer(tokenizer, records, overlong=3, kind="truncate"), 0.2)


def test_a_tokenizer_of_other_text_is_warned_about(tokenizer, records):
    assert start.warnings_about(tokenizer, records[:5]) == []
    other = [make_record("某上市公司披露季报,净利润同比增长,毛利率略有下滑。", ["营业收入减去成本"], "见附注")]
    (warning,) = start.warnings_about(tokenizer, other)
    assert "tokens a character" in warning
    ratio, unknown = start.tokens_per_character(tokenizer, other)
    assert ratio > 1.5 and unknown == 0
    words = train_tokenizer(["abc abc abc def"] * 4, vocab_size=300)
    words.unk_token = words.convert_ids_to_tokens(words("a", add_special_tokens=False)["input_ids"])[0]
    warnings = start.warnings_about(words, [make_record("a a a a a a", ["a"], "a")])
    assert any("unknown to the tokenizer" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("dtype", "rate", "lost"),
    [
        (torch.float32, 1e-6, 0.0),
        (torch.bfloat16, 1e-5, 1.0),
        (torch.bfloat16, 1e-2, 0.0),
        (torch.float16, 1e-6, 1.0),
        (torch.float16, 1e-4, 0.0),
    ],
)
def test_steps_that_are_lost_in_the_rounding(dtype, rate, lost):
    """Of weights between 0.02 and 0.03, whose neighbours in bfloat16 are 1.2e-4 apart and in float16 1.5e-5."""
    model = torch.nn.Linear(40, 300)
    torch.nn.init.uniform_(model.weight, 0.02, 0.03)
    torch.nn.init.constant_(model.bias, 0.02)
    assert start.lost_steps(model.to(dtype), rate) == pytest.approx(lost, abs=0.01)


def test_training_in_half_precision_is_warned_about(tokenizer):
    trainer = _trainer(tokenizer, [], learning_rate=1e-5)
    assert start.warnings_about_weights(trainer) == []
    trainer.model.bfloat16()
    (warning,) = start.warnings_about_weights(trainer)
    assert "learning_rate=1e-05 is lost in the rounding" in warning and "--bf16 true" in warning
    trainer.is_deepspeed_enabled = True
    assert start.warnings_about_weights(trainer) == []


@pytest.mark.parametrize(("stage", "device", "warned"), [(2, "cpu", 1), (2, "none", 0), (3, "cpu", 0), (1, "nvme", 1)])
def test_an_offload_that_the_stage_does_not_have(stage, device, warned):
    zero = {"stage": stage, "offload_param": {"device": device}, "offload_optimizer": {"device": "cpu"}}
    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": zero})
    trainer = SimpleNamespace(accelerator=SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin)))
    warnings = start.warnings_about_offload(trainer)
    assert len(warnings) == warned
    assert all(f"ZeRO stage {stage} keeps all weights" in each and "zero3" in each for each in warnings)
    trainer.accelerator.state = SimpleNamespace()
    assert start.warnings_about_offload(trainer) == []
