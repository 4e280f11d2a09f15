"""Go on training a finished model on new records (a new domain, feedback), and measure what it forgets.

    python recipes/continual.py --config recipes/configs/continual/demo.yaml
    python recipes/continual.py --model_name_or_path out/round1 --dataset feedback.jsonl --old_dataset data/mine \\
        --replay_share 0.3 --output_dir out/round2 --push_to_hub true

A share of the old records is mixed in. Old and new domains are evaluated before and after; `history.json` and
`history.png` follow them over the rounds. A model whose accuracy on an old domain fell by more than `max_drop` points
is not published. The YAML holds any argument of `ContinualArguments`, `CoTSFTConfig`, TRL's `ModelConfig` and of the
classes below; the command line overrides it. A run that was stopped goes on by itself.
"""

from pathlib import Path

from trl import ModelConfig, TrlParser, get_peft_config

from hf_reason import cli
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

TEMPLATE = Path(cli.__file__).parents[1] / "evaluation" / "model_card" / "template.md"


def main() -> None:
    classes = (cli.ContinualArguments, cli.DataArguments, cli.EvaluationArguments, CoTSFTConfig, ModelConfig)
    parsed = TrlParser(classes).parse_args_and_config()  # type: ignore[arg-type]
    round_args, _, _, args, model_args = parsed
    run = cli.begin_round(parsed)
    if run is None:
        return
    model, tokenizer = cli.load_round_model(round_args, model_args, args, run.train)
    trainer = CoTSFTTrainer(model, peft_config=get_peft_config(model_args), **run.inputs(tokenizer))
    run.measure_before(trainer)
    cli.train_or_go_on(trainer)
    run.report(trainer, run.finish(trainer, TEMPLATE, model_args.model_name_or_path))


if __name__ == "__main__":
    with cli.one_line_errors():
        main()
