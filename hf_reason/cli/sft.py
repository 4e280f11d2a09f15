"""`sft`: fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it."""

from collections.abc import Sequence

from trl import ModelConfig

from hf_reason.cli.inputs.long_context import apply_long_context
from hf_reason.cli.inputs.models import load_model_and_tokenizer, peft_config_of
from hf_reason.cli.parsing.parser import parse
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

from .arguments import DataArguments, LongContextArguments, ScratchArguments
from .generation_arguments import EvaluationArguments
from .runner import begin

CLASSES = (DataArguments, ScratchArguments, LongContextArguments, EvaluationArguments, CoTSFTConfig, ModelConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Train; `argv` are the arguments after the command's name."""
    groups = parse("sft", CLASSES, argv)
    _, scratch, long_context, _, args, model_args = groups
    run = begin(groups)
    if run is None:
        return
    model, tokenizer = load_model_and_tokenizer(model_args, scratch, args, run.splits.train)
    apply_long_context(long_context, model)
    trainer = CoTSFTTrainer(model, peft_config=peft_config_of(model_args), **run.inputs(tokenizer))
    run.train(trainer)
    run.finish(trainer, model_args.model_name_or_path)
