"""`lora`: a LoRA on the layers of a finished model that reason, and proof that nothing else moved."""

from collections.abc import Sequence

from trl import ModelConfig

from hf_reason.cli.inputs.models import load_model_and_tokenizer, peft_config_of
from hf_reason.cli.parsing.parser import parse
from hf_reason.trainers import ReasonerLoRAConfig, ReasonerLoRATrainer
from hf_reason.trainers.launch import read_on_every_process

from .arguments import DataArguments, ScratchArguments
from .generation_arguments import EvaluationArguments
from .runner import begin

CLASSES = (DataArguments, EvaluationArguments, ReasonerLoRAConfig, ModelConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Train; `argv` are the arguments after the command's name."""
    groups = parse("lora", CLASSES, argv)
    _, _, args, model_args = groups
    if model_args.model_name_or_path is None:
        raise ValueError("There is no model to adapt. Give model_name_or_path.")
    model_args.use_peft = True
    run = begin(groups)
    if run is None:
        return
    if args.reasoner_layers == "auto":
        read_on_every_process("the ranking of the layers runs the whole model")
    model, tokenizer = load_model_and_tokenizer(model_args, ScratchArguments(), args, run.splits.train)
    trainer = ReasonerLoRATrainer(model, peft_config=peft_config_of(model_args), **run.inputs(tokenizer))
    run.train(trainer)
    run.finish(trainer, model_args.model_name_or_path)
