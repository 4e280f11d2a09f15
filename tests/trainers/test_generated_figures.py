"""Figures of generated text reach the log, early stopping and the best checkpoint."""

from datasets import Dataset
from tiny import tiny_settings, tiny_trainer
from transformers import EarlyStoppingCallback, TrainerCallback

from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer


class _Seen(TrainerCallback):
    def __init__(self):
        self.metrics = []

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.metrics.append(dict(metrics))


def test_early_stopping_on_a_generated_figure(tmp_path, tiny_model, tokenizer, records):
    """The figure falls from the second evaluation on: the run stops after two without an improvement."""
    scores, seen = iter([0.5, 0.4, 0.3, 0.2, 0.1]), _Seen()
    trainer = tiny_trainer(
        CoTSFTTrainer,
        CoTSFTConfig,
        tmp_path,
        tiny_model,
        tokenizer,
        records[:8],
        records[8:12],
        {
            "generation_eval": lambda model: {"step_accuracy": next(scores)},
            "callbacks": [EarlyStoppingCallback(early_stopping_patience=2), seen],
        },
        max_steps=5,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model="step_accuracy",
        greater_is_better=True,
        load_best_model_at_end=True,
    )
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")
    assert [metrics["eval_step_accuracy"] for metrics in seen.metrics] == [0.5, 0.4, 0.3]
    rows = [row for row in trainer.state.log_history if "eval_step_accuracy" in row]
    assert len(rows) == 3 and all("eval_loss" in row for row in rows)


def test_of_several_sets_the_whole_has_the_figures(tmp_path, tiny_model, tokenizer, records):
    seen = _Seen()
    trainer = CoTSFTTrainer(
        tiny_model,
        CoTSFTConfig(**tiny_settings(tmp_path)),
        train_dataset=Dataset.from_list(records[:8]),
        eval_dataset={name: Dataset.from_list(records[8:12]) for name in ("one", "two")},
        processing_class=tokenizer,
        generation_eval=lambda model: {"step_accuracy": 0.5},
        callbacks=[seen],
    )
    metrics = trainer.evaluate()
    assert metrics["eval_step_accuracy"] == 0.5
    named = [sorted(name for name in found if name.endswith(("_loss", "step_accuracy"))) for found in seen.metrics]
    assert named == [["eval_one_loss"], ["eval_two_loss"], ["eval_one_loss", "eval_step_accuracy", "eval_two_loss"]]
    logged = [row for row in trainer.state.log_history if "eval_step_accuracy" in row]
    assert len(logged) == 1 and "eval_one_loss" not in logged[0], "loggers get them, once, as figures of the whole"
