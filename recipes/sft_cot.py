"""Fine-tune a model on chains of thought, evaluate it on generated answers, write its card, push it.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/sft_cot.py \\
        --config recipes/configs/sft_cot/qwen2.5-0.5b-110k.yaml
    torchrun --nproc_per_node 2 recipes/sft_cot.py --config FILE.yaml --use_cpu true

The YAML holds any argument of the classes below, of `CoTSFTConfig` (TRL's `SFTConfig` and more) and of TRL's
`ModelConfig` (LoRA, quantisation); the command line overrides it. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import cli
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

TEMPLATE = Path(cli.__file__).parents[1] / "evaluation" / "model_card" / "template.md"


def main() -> None:
    classes = (
        cli.DataArguments,
        cli.ScratchArguments,
        cli.LongContextArguments,
        cli.EvaluationArguments,
        CoTSFTConfig,
        ModelConfig,
    )
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    _, scratch, long_context, _, args, model_args = parsed
    run = cli.begin(parsed)
    if run is None:
        return
    model, tokenizer = cli.load_model_and_tokenizer(model_args, scratch, args, run.train)
    long_context.apply(model)
    trainer = CoTSFTTrainer(model, peft_config=get_peft_config(model_args), **run.inputs(tokenizer))
    cli.train_or_go_on(trainer)
    run.finish(trainer, TEMPLATE, model_args.model_name_or_path)


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
