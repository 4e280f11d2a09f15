"""Distil a teacher into a student on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/distill_kl.py \\
        --config recipes/configs/distill_kl/demo.yaml --teacher path/or/name
    python recipes/distill_kl.py --config FILE.yaml --teacher data/mine-teacher       (from a cache: no teacher runs)
    python recipes/distill_kl.py --config FILE.yaml --teacher self --use_peft true    (the student without its LoRA)

The student is `model_name_or_path`, or a part of the teacher (`student_layers`, `student_config`), or a model from
scratch (`model_config`). The YAML holds any argument of `DistillKLConfig` (`CoTSFTConfig` and more), of TRL's
`ModelConfig` and of the classes below; the command line overrides it. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import cli
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

TEMPLATE = Path(cli.__file__).parents[1] / "evaluation" / "model_card" / "template.md"


def main() -> None:
    classes = (
        cli.DataArguments,
        cli.StudentArguments,
        cli.ScratchArguments,
        cli.LongContextArguments,
        cli.EvaluationArguments,
        DistillKLConfig,
        ModelConfig,
    )
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    _, student, scratch, long_context, _, args, model_args = parsed
    run = cli.begin(parsed)
    if run is None:
        return
    model, tokenizer = cli.load_student(student, model_args, scratch, args, run.train)
    long_context.apply(model)
    trainer = DistillKLTrainer(model, peft_config=get_peft_config(model_args), **run.inputs(tokenizer))
    cli.train_or_go_on(trainer)
    run.finish(trainer, TEMPLATE, model_args.model_name_or_path)


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
