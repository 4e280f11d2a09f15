"""`distill`: distil a teacher into a student on chains of thought; the rest is as in `sft`."""

from collections.abc import Sequence

from trl import ModelConfig

from hf_reason.cli.inputs.datasets import load_text_splits
from hf_reason.cli.inputs.long_context import apply_long_context
from hf_reason.cli.inputs.models import peft_config_of
from hf_reason.cli.inputs.students import load_student
from hf_reason.cli.parsing.parser import parse
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

from .arguments import DataArguments, LongContextArguments, ScratchArguments, StudentArguments
from .generation_arguments import EvaluationArguments
from .runner import begin

CLASSES = (
    DataArguments,
    StudentArguments,
    ScratchArguments,
    LongContextArguments,
    EvaluationArguments,
    DistillKLConfig,
    ModelConfig,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Train; `argv` are the arguments after the command's name."""
    groups = parse("distill", CLASSES, argv)
    _, student, scratch, long_context, _, args, model_args = groups
    why = "student and teacher are compared on text alone (teacher_model_name_or_path)"
    run = begin(groups, load_text_splits(why))
    if run is None:
        return
    model, tokenizer = load_student(student, scratch, model_args, args, run.splits.train)
    apply_long_context(long_context, model)
    trainer = DistillKLTrainer(model, peft_config=peft_config_of(model_args), **run.inputs(tokenizer))
    run.train(trainer)
    run.finish(trainer, model_args.model_name_or_path)
