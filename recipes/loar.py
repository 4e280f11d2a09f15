"""The whole flow of LoAR: load a model, route its attention, train it on chains of thought, answer with a chain.

    accelerate launch --config_file recipes/accelerate/ddp.yaml --num_processes 4 recipes/loar.py \\
        --config recipes/configs/loar/demo.yaml
    python recipes/loar.py --config FILE.yaml --budget 0.5 --loar_window 512 --use_peft true      (with a LoRA)

The YAML holds any argument of `RoutingArguments` (budget, windows, tasks), `CoTSFTConfig`, TRL's `ModelConfig` and of
the classes below; the command line overrides it. `output_dir` gets the model (or its LoRA) and, beside it,
`loar_config.json` and `loar.safetensors`. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import cli, generate_cot
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

TEMPLATE = Path(cli.__file__).parents[1] / "evaluation" / "model_card" / "template.md"


def main() -> None:
    classes = (cli.RoutingArguments, cli.DataArguments, cli.EvaluationArguments, CoTSFTConfig, ModelConfig)
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    routing, _, evaluation, args, model_args = parsed
    if model_args.model_name_or_path is None:
        raise ValueError("There is no model to route. Give model_name_or_path.")
    run = cli.begin(parsed)
    if run is None:
        return
    model, tokenizer = cli.load_model_and_tokenizer(model_args, cli.ScratchArguments(), args, run.train)
    fresh = not hasattr(model, "loar")
    routing.apply(model, tokenizer)
    trainer = CoTSFTTrainer(model, peft_config=get_peft_config(model_args), **run.inputs(tokenizer))
    cli.prepare_routing(trainer, run, routing, fresh)
    cli.train_or_go_on(trainer)
    run.finish(trainer, TEMPLATE, model_args.model_name_or_path)
    question = run.question()
    if question is not None:
        trained = trainer.accelerator.unwrap_model(trainer.model)
        (answer,) = generate_cot(
            trained,
            tokenizer,
            question,
            instructions=run.instructions,
            max_answer_tokens=64,
            max_thought_tokens=evaluation.eval_max_new_tokens,
        )
        if trainer.is_world_process_zero():
            print("Question:", question["context"], *answer.steps, f"Answer: {answer.answer}", sep="\n")


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
