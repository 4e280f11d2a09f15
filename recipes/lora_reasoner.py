"""Fine-tune a finished model with a LoRA on the layers that reason, and prove that nothing else moved.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/lora_reasoner.py \\
        --config recipes/configs/lora_reasoner/demo.yaml
    python recipes/lora_reasoner.py --config FILE.yaml --reasoner_layers 8-15 --load_in_4bit true    (QLoRA, extra bnb)

The YAML holds any argument of `ReasonerLoRAConfig` (`CoTSFTConfig` and more), of TRL's `ModelConfig` (rank, targets,
`use_dora`, `use_rslora`, quantisation) and of the classes below; the command line overrides it. `output_dir` gets the
adapter, the ranking of the layers, the report and the card. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import cli
from hf_reason.trainers import ReasonerLoRAConfig, ReasonerLoRATrainer

TEMPLATE = Path(cli.__file__).parents[1] / "evaluation" / "model_card" / "template.md"


def main() -> None:
    classes = (cli.DataArguments, cli.EvaluationArguments, ReasonerLoRAConfig, ModelConfig)
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    _, _, args, model_args = parsed
    if model_args.model_name_or_path is None:
        raise ValueError("There is no model to adapt. Give model_name_or_path.")
    model_args.use_peft = True
    run = cli.begin(parsed)
    if run is None:
        return
    model, tokenizer = cli.load_model_and_tokenizer(model_args, cli.ScratchArguments(), args, run.train)
    trainer = ReasonerLoRATrainer(model, peft_config=get_peft_config(model_args), **run.inputs(tokenizer))
    cli.train_or_go_on(trainer)
    run.finish(trainer, TEMPLATE, model_args.model_name_or_path)


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
