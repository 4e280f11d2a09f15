"""Evaluation during and after a run, the report, the model card and the push."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.evaluation import evaluate_model, format_table, save_report
from hf_reason.evaluation.model_card.build import build_model_card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_reason.trainers import CoTSFTTrainer

# Logged at each evaluation; the whole report comes at the end.
_LOGGED = ("answer_accuracy", "step_accuracy", "key_node_coverage", "close_rate", "repeat_rate", "language_ratio")
# The settings a reader of the card wants to know; the rest is in training_args.bin.
_SETTINGS = (
    "learning_rate",
    "muon_learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_steps",
    "max_length",
    "seed",
    "packing",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "world_size",
    "bf16",
    "optim",
    "thought_weight",
    "answer_weight",
    "step_weighting",
    "label_smoothing_factor",
    "weight_decay",
    "tasks",
    "mixup_alpha",
    "domain_temperature",
    "domain_shares",
    "domain_target",
    "curriculum",
    "reasoner_layers",
    "teacher",
    "ce_weight",
    "kl_weight",
    "beta",
    "temperature",
    "path_weight",
    "on_policy_share",
)


@dataclass
class EvaluationArguments:
    """How a recipe evaluates on generated outputs."""

    eval_records: int = field(default=100, metadata={"help": "Validation records generated at each evaluation."})
    test_records: int | None = field(default=None, metadata={"help": "Test records at the end. Default: all."})
    eval_max_new_tokens: int = field(default=2048, metadata={"help": "Longest output, in tokens."})
    eval_generation_batch_size: int = field(default=16, metadata={"help": "Sequences generated at once."})
    eval_samples: int = field(default=1, metadata={"help": "Outputs a test record; more than one are sampled."})
    eval_temperature: float | None = field(default=None, metadata={"help": "Sample with it. Default: greedy."})
    eval_distractors: bool = field(default=True, metadata={"help": "Measure distractor resistance at the end."})

    def generation(self, thinking: bool) -> dict[str, Any]:
        return {
            "max_new_tokens": self.eval_max_new_tokens,
            "batch_size": self.eval_generation_batch_size,
            "thinking": thinking,
        }


def generation_eval(
    records: Iterable[Mapping[str, Any]],
    tokenizer: "PreTrainedTokenizerBase",
    arguments: EvaluationArguments,
    thinking: bool = True,
    instructions: Mapping[str, str] | None = None,
) -> Callable[[Any], dict[str, float]]:
    """What `CoTSFTTrainer(generation_eval=...)` calls: the main figures on a few validation records, greedily."""
    chosen = list(records)[: arguments.eval_records]

    def evaluate(model: Any) -> dict[str, float]:
        options = arguments.generation(thinking) | {"instructions": instructions, "progress": False}
        results = evaluate_model(model, tokenizer, chosen, **options)
        # A figure that cannot be had (no checkable step) counts as 0, so that a best checkpoint can be chosen.
        return {name: float(results[name] or 0.0) for name in _LOGGED}

    return evaluate


def _shown_settings(args: Any) -> dict[str, Any]:
    values = {name: getattr(args, name, None) for name in _SETTINGS}
    if values["teacher"] and Path(values["teacher"]).exists():
        values["teacher"] = Path(values["teacher"]).name  # a card is public, the folders of a machine are not
    return {name: getattr(value, "value", value) for name, value in values.items()}


def finish(
    trainer: "CoTSFTTrainer",
    test_records: Iterable[Mapping[str, Any]] | None,
    arguments: EvaluationArguments,
    *,
    template: str | Path,
    data_report: str | Path | None = None,
    base_model: str | None = None,
    thinking: bool = True,
    dataset_name: str | None = None,
) -> dict[str, Any]:
    """Save the model, evaluate it on the test records, write report and card, and push if the arguments say so.

    Args:
        trainer: After `train()`.
        test_records: Records the model has not seen; `None` leaves the evaluation out.
        arguments: How to evaluate.
        template: The model card's template.
        data_report: `report.json` of the data preparation, for the card.
        base_model: Name of the model that was fine-tuned.
        thinking: Whether the model was trained to think.
        dataset_name: For the card.

    Returns:
        The results of `evaluate_model`; empty without test records.
    """
    args = trainer.args
    trainer.save_model()
    trainer.save_state()
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    results: dict[str, Any] = {}
    if test_records is not None:
        results = evaluate_model(
            model,
            tokenizer,
            list(test_records)[: arguments.test_records],
            num_samples=arguments.eval_samples,
            temperature=arguments.eval_temperature,
            distractors=arguments.eval_distractors,
            seed=args.seed,
            instructions=trainer.instructions,
            return_predictions=True,
            **arguments.generation(thinking),
        )
    if trainer.is_world_process_zero():
        output = Path(args.output_dir)
        written = save_report(results, output / "evaluation") if results else {}
        name = args.hub_model_id or output.name
        report = Path(data_report) if data_report else None
        trainer.model_card = build_model_card(
            template,
            model_name=name,
            base_model=base_model,
            license=None,
            datasets=[dataset_name] if dataset_name else [],
            datasets_info=json.loads(report.read_text("utf-8")) if report and report.is_file() else None,
            settings=_shown_settings(args),
            results=results or None,
            plots=[str(path.relative_to(output)) for path in written.values() if path.suffix == ".png"],
        )
        (output / "README.md").write_text(trainer.model_card, encoding="utf-8")
        if results:
            print(format_table({name: results}))
        print(f"Model, report and card: {output}")
    if args.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
    return results
