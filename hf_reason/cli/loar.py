"""`loar`: load a model, route its attention, train it on chains of thought, answer a question with a chain."""

from collections.abc import Sequence

from trl import ModelConfig

from hf_reason import generate_cot
from hf_reason.cli.inputs.models import load_model_and_tokenizer, peft_config_of
from hf_reason.cli.parsing.parser import parse
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.launch import read_on_every_process

from .arguments import DataArguments, RoutingArguments, ScratchArguments
from .ask import show
from .generation_arguments import EvaluationArguments
from .routing import apply_routing, prepare_routing
from .runner import TrainingRun, begin

CLASSES = (RoutingArguments, DataArguments, EvaluationArguments, CoTSFTConfig, ModelConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Train; `argv` are the arguments after the command's name."""
    groups = parse("loar", CLASSES, argv)
    routing, _, _, args, model_args = groups
    if model_args.model_name_or_path is None:
        raise ValueError("There is no model to route. Give model_name_or_path.")
    run = begin(groups)
    if run is None:
        return
    read_on_every_process("the calibration runs the whole model, and the routers have buffers, which it loses")
    model, tokenizer = load_model_and_tokenizer(model_args, ScratchArguments(), args, run.splits.train)
    fresh = apply_routing(routing, model, tokenizer)
    trainer = CoTSFTTrainer(model, peft_config=peft_config_of(model_args), **run.inputs(tokenizer))
    prepare_routing(trainer, run, routing, fresh)
    run.train(trainer)
    run.finish(trainer, model_args.model_name_or_path)
    _show_answer(run, trainer)


def _show_answer(run: TrainingRun, trainer: CoTSFTTrainer) -> None:
    question = run.question()
    if question is None:
        return
    (answer,) = generate_cot(
        trainer.accelerator.unwrap_model(trainer.model),
        trainer.processing_class,
        question,
        instructions=run.instructions,
        max_answer_tokens=64,
        # a sample, which must not fail where the evaluation is of a few tokens
        max_thought_tokens=max(run.evaluation.max_thought_tokens or run.evaluation.eval_max_completion_length, 16),
    )
    if trainer.is_world_process_zero():
        show(question["context"], answer)
