"""`continual`: train a finished model further on new records, and measure what it forgets.

Some of the old records are mixed in. Old and new domains are evaluated before and after; `history.json` and
`history.png` follow them over the rounds. A model whose accuracy on an old domain fell by more than `max_drop` points
is not published.
"""

from collections.abc import Sequence

from trl import ModelConfig

from hf_reason.cli.inputs.models import peft_config_of
from hf_reason.cli.inputs.round_model import load_round_model
from hf_reason.cli.parsing.parser import parse
from hf_reason.models.gathered import gathered
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.launch import read_on_every_process

from .arguments import ContinualArguments, DataArguments
from .generation_arguments import EvaluationArguments
from .round import ContinualRound
from .runner import begin

CLASSES = (ContinualArguments, DataArguments, EvaluationArguments, CoTSFTConfig, ModelConfig)


def main(argv: Sequence[str] | None = None) -> None:
    """Train a round; `argv` are the arguments after the command's name."""
    groups = parse("continual", CLASSES, argv)
    round_args, data, _, args, model_args = groups
    this_round = ContinualRound(round_args, data, args, model_args)
    run = begin(groups, this_round.load, instructions=this_round.instructions, when_finished=this_round.check_finished)
    if run is None:
        return
    read_on_every_process("the model is measured before the round")
    model, tokenizer = load_round_model(round_args, model_args, args, run.splits.train)
    trainer = CoTSFTTrainer(model, peft_config=peft_config_of(model_args), **run.inputs(tokenizer))
    with gathered(trainer.model):
        this_round.measure_before(run, trainer)
    run.train(trainer)
    results = run.finish(trainer, model_args.model_name_or_path)
    assert results is not None  # a round has the tests of its old domains
    this_round.report(trainer, results)
