"""Pain 15, axolotl-ai-cloud/axolotl#3270, #3206: evaluation crashes in distillation, or reports other units.

The plugin of that framework cannot be installed beside this stack, so that only our side is asserted.
"""

import pytest
from peft import LoraConfig
from tiny import first_batch, tiny_qwen2, tiny_trainer

from hf_reason.trainers import DistillKLConfig, DistillKLTrainer


@pytest.mark.parametrize("adapter", [None, LoraConfig(r=2, target_modules="all-linear")], ids=["full", "LoRA"])
@pytest.mark.parametrize("options", [{"beta": 0.5}, {"step_weighting": "step", "path_weight": 1.0}])
def test_evaluation_has_the_units_of_the_training_loss(tmp_path, tiny_model, tokenizer, records, adapter, options):
    teacher = tiny_qwen2(tokenizer, seed=1, hidden_size=24)
    trainer = tiny_trainer(
        DistillKLTrainer,
        DistillKLConfig,
        tmp_path,
        tiny_model,
        tokenizer,
        records[:4],
        records[:4],
        {"teacher_model": teacher, "teacher_tokenizer": tokenizer, "peft_config": adapter},
        per_device_eval_batch_size=4,
        ce_weight=0.25,
        **options,
    )
    evaluated = trainer.evaluate()
    trained = trainer.compute_loss(trainer.model.train(), first_batch(trainer)).item()
    assert evaluated["eval_loss"] == pytest.approx(trained, abs=1e-5)
    path = options.get("path_weight", 0.0) and evaluated["eval_path"]
    parts = 0.25 * evaluated["eval_ce"] + trainer.args.kl_weight * evaluated["eval_kl"] + path
    assert evaluated["eval_loss"] == pytest.approx(parts, abs=1e-5)
