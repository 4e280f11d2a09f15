"""Evaluation during and after a run, the report, the model card and the push."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.evaluation import evaluate_model, format_table, save_report
from hf_reason.evaluation.model_card.build import build_model_card

from .arguments import DataArguments
from .generation_arguments import EvaluationArguments
from .pushing import pushing
from .resume import mark, mark_finished

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hf_reason.evaluation import EvaluationResult
    from hf_reason.trainers import CoTSFTTrainer, StepGRPOTrainer

# Logged at each evaluation; the whole report comes at the end.
_LOGGED = ("answer_accuracy", "step_accuracy", "key_node_coverage", "close_rate", "repeat_rate", "language_ratio")
# What a push leaves out: checkpoints, what was half written, and files about this machine.
NOT_PUSHED = ["_*", "checkpoint-*", "*.partial", "*.tmp*", "run.json", "training_args.bin", "tokenizer/*"]


def generation_eval(
    records: Iterable[Mapping[str, Any]],
    tokenizer: "PreTrainedTokenizerBase",
    arguments: EvaluationArguments,
    thinking: bool = True,
    instructions: Mapping[str, str] | None = None,
) -> Callable[[Any], dict[str, float]]:
    """What `CoTSFTTrainer(generation_eval=...)` calls: the main figures on a few validation records, greedily."""
    chosen = list(records)[: arguments.max_eval_records]

    def evaluate(model: Any) -> dict[str, float]:
        options = arguments.generation(thinking) | {"instructions": instructions, "progress": False}
        results = evaluate_model(model, tokenizer, chosen, **options)
        # A figure that cannot be computed (no checkable step) counts as 0, so that a best checkpoint can be chosen.
        return {name: float(results[name] or 0.0) for name in _LOGGED}

    return evaluate


def finish(
    trainer: "CoTSFTTrainer | StepGRPOTrainer",
    test_records: "Iterable[Mapping[str, Any]] | None",
    evaluation: EvaluationArguments,
    data: DataArguments,
    *,
    settings: Mapping[str, Any],
    base_model: str | None = None,
) -> "EvaluationResult | None":
    """Save the model, evaluate it on the test records, write report and card, and push if the arguments say so.

    Args:
        trainer: After `train()`.
        test_records: Records the model has not seen; `None` leaves the evaluation out.
        evaluation: How to evaluate.
        data: What the model was trained on: its report and name for the card, and whether the model thinks.
        settings: What the card shows, see `card_settings`.
        base_model: Name of the model that was fine-tuned.

    Returns:
        The results of `evaluate_model`; `None` without test records.
    """
    args = trainer.args
    trainer.save_model(_internal_call=True)  # pushed when all is written
    trainer.save_state()
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    results = None
    if test_records is not None:
        results = evaluate_model(
            model,
            tokenizer,
            list(test_records),  # type: ignore[arg-type]
            distractors=evaluation.eval_distractors,
            seed=args.seed,
            instructions=trainer.instructions,
            return_predictions=True,
            **evaluation.generation(data.thinking),
            **evaluation.sampling(),
        )
    names = [] if data.report else list(data.dataset_name or [])
    if trainer.is_world_process_zero():
        output = Path(str(args.output_dir))
        written = save_report(results, output / "evaluation") if results else {}
        plots = [path.relative_to(output).as_posix() for path in written.values() if path.suffix == ".png"]
        name = repository_of(args)
        adapter = hasattr(model, "peft_config")
        trainer.model_card = _card(name, base_model, names, data.report, settings, results, plots, adapter)
        (output / "README.md").write_text(trainer.model_card, encoding="utf-8")
        if results:
            print(format_table({name: results}))
        print(f"Model, report and card: {output}")
        mark_finished(args, trainer.state.global_step)
    if args.push_to_hub:
        with pushing(str(args.output_dir), repository_of(args)):
            trainer.push_to_hub(dataset_name=names or None)
        if trainer.is_world_process_zero():
            mark(str(args.output_dir), pushed=True)
    return results


def _card(
    name: str,
    base_model: str | None,
    datasets: Sequence[str],
    report: Path | None,
    settings: Mapping[str, Any],
    results: "EvaluationResult | None",
    plots: Sequence[str],
    adapter: bool,
) -> str:
    return build_model_card(
        model_name=name,
        base_model=base_model,
        datasets=[dataset for dataset in datasets if not Path(dataset).exists()],
        datasets_info=json.loads(report.read_text("utf-8")) if report else None,
        settings=settings,
        results=results,
        plots=plots,
        adapter=adapter,
    )


def repository_of(args: Any) -> str:
    """The name of a run on the Hub."""
    return str(args.hub_model_id or Path(str(args.output_dir)).name)


def push_folder(args: Any) -> None:
    """Push a finished output folder that has not been pushed, without its checkpoints."""
    from huggingface_hub import HfApi

    from hf_reason.trainers.saved_files import public_bases

    output, api = Path(str(args.output_dir)), HfApi(token=args.hub_token)
    with pushing(output, repository_of(args)), public_bases(output):
        name = api.create_repo(repository_of(args), private=args.hub_private_repo, exist_ok=True).repo_id
        api.upload_folder(repo_id=name, folder_path=output, ignore_patterns=NOT_PUSHED)
    mark(str(output), pushed=True)
    print(f"{output} was pushed to {name}.")
