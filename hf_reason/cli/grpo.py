"""`grpo`: reinforcement learning of a reasoning model, with credit for single steps."""

import sys
from collections.abc import Sequence
from typing import Any

from trl import ModelConfig

from hf_reason.cli.inputs.datasets import first, load_text_splits
from hf_reason.cli.inputs.models import load_model_and_tokenizer, peft_config_of
from hf_reason.cli.parsing.parser import parse
from hf_reason.trainers import StepGRPOConfig, StepGRPOTrainer

from .arguments import DataArguments, ScratchArguments
from .generation_arguments import EvaluationArguments
from .grpo_arguments import RewardArguments
from .runner import TrainingRun, begin
from .sampled import ShowSample
from .start import count_parameters, template_use

CLASSES = (RewardArguments, DataArguments, EvaluationArguments, StepGRPOConfig, ModelConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Train; `argv` are the arguments after the command's name."""
    groups = parse("grpo", CLASSES, argv)
    rewards, data, evaluation, args, model_args = groups
    if model_args.model_name_or_path is None:
        raise ValueError("There is no model to train further. Give model_name_or_path.")
    functions = rewards.functions(args.max_completion_length, data.thinking)
    if args.reward_weights is not None and len(args.reward_weights) != len(functions):
        raise ValueError(
            f"reward_weights has {len(args.reward_weights)} numbers and reward_funcs {len(functions)} functions "
            f"({', '.join(rewards.reward_funcs)}). Give one weight for each."
        )
    run = begin(groups, load_text_splits("grpo writes its completions to text alone"))
    if run is None:
        return
    model, tokenizer = load_model_and_tokenizer(model_args, ScratchArguments(), args, run.splits.train)
    validation = run.splits.validation
    inputs = run.inputs(tokenizer) | {
        # with their steps: what is generated is decided by the prompt
        "train_dataset": run.splits.train,
        "eval_dataset": None if validation is None else first(validation, evaluation.max_eval_records),
        "thinking": data.thinking,
    }
    trainer = StepGRPOTrainer(model, functions, peft_config=peft_config_of(model_args), **inputs)
    trainer.add_callback(ShowSample(trainer))
    run.train(trainer, start_line(trainer, run))
    _say_settled(trainer)
    run.finish(trainer, model_args.model_name_or_path)


def start_line(trainer: StepGRPOTrainer, run: TrainingRun) -> str:
    """Problems used and left out, trainable parameters, updates and completions, and use of the templates."""
    args: Any = trainer.args
    trainable, total = count_parameters(trainer.accelerator.unwrap_model(trainer.model))
    problems = len(trainer.train_dataset)  # type: ignore[arg-type]
    completions = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    always, never = trainer.data.dropped
    left_out = f" ({always} always solved and {never} never solved left out)" if args.difficulty_from else ""
    # each completion is used in num_iterations updates
    epoch = problems * args.num_generations * trainer.num_iterations / completions
    updates = args.max_steps if args.max_steps > 0 else round(args.num_train_epochs * epoch)
    parts = [
        f"{problems} training problems{left_out}",
        f"{trainable:,} of {total:,} parameters trainable ({trainable / max(total, 1):.2%})",
        f"{updates} updates of {completions} completions, {args.num_generations} of each problem",
        f"rewards: {', '.join(trainer.reward_func_names)}",
        f"step_weight {args.step_weight:g}",
    ]
    if args.teacher_kl_weight > 0:
        parts.append(f"teacher_kl_weight {args.teacher_kl_weight:g}")
    if run.instructions:
        parts.append(template_use(run.splits.train, run.instructions))
    return "Start: " + "; ".join(parts)


def _say_settled(trainer: StepGRPOTrainer) -> None:
    if trainer.is_world_process_zero():
        right, wrong = trainer.settled.counts()
        print(
            f"Problems whose last groups were all right: {right}; all wrong: {wrong}"
            + ("" if trainer.args.skip_settled else " (skip_settled leaves them out for a while)"),
            file=sys.stderr,
        )
