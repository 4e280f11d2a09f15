"""`evaluate`: measure answers and steps on held-out problems; a table here, JSON, predictions and plots in a folder.

Several models are shown side by side, compared with the first.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason.cli.parsing.parser import parse

from .arguments import InferenceArguments, SourceArguments, as_list


@renamed(
    model="model_name_or_path",
    data="dataset_name",
    limit="max_records",
    max_new_tokens="max_completion_length",
    distractors="eval_distractors",
)
@dataclass
class EvaluateArguments(InferenceArguments, SourceArguments):
    """Which models are measured on what."""

    model_name_or_path: list[str] = option(default_factory=list, help="Folders or Hub names of models. (required)")
    split: str = option("test", "Split of prepared data; raw files, with or without chains, are read whole.")
    max_records: int | None = option(None, "Only the first records.")
    max_completion_length: int = option(2048, "Longest output in tokens.")
    batch_size: int = option(16, "Sequences generated at once, on each process.")
    thinking: bool = option(True, "False: ask a hybrid model for the answers without their thoughts.")
    eval_distractors: bool = option(False, "Also measure resistance to distractors in the problems.")
    output_dir: str | None = option(None, "Folder for JSON, predictions and plots. Default: the table only.")
    instructions: str | None = option(
        None, "YAML with a template for each domain, or 'default'. Default: those saved beside each model."
    )
    expected_world_size: int | None = option(None, "Number of processes that must work together.")

    def __post_init__(self) -> None:
        SourceArguments.__post_init__(self)
        InferenceArguments.__post_init__(self)
        self.model_name_or_path = as_list(self.model_name_or_path)
        if not self.model_name_or_path:
            raise ValueError("there is no model. Give --model_name_or_path: one or several.")


CLASSES = (EvaluateArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate; `argv` are the arguments after the command's name."""
    args: EvaluateArguments
    (args,) = parse("evaluate", CLASSES, argv)
    import torch
    from accelerate import PartialState

    from hf_reason.cli.inputs.datasets import load_evaluation_records, reading_of
    from hf_reason.cli.inputs.inference import check_for_inference, load_for_inference, sampling
    from hf_reason.evaluation import evaluate_model, format_table, save_report
    from hf_reason.text import load_instructions, saved_instructions
    from hf_reason.trainers.launch import check_world_size

    from .start import warnings_about

    state = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available())
    check_world_size(args.expected_world_size)
    given = load_instructions(args.instructions)
    for name in args.model_name_or_path:  # before the first has generated for an hour
        check_for_inference(name, args)
    with state.main_process_first():
        records: Any = load_evaluation_records(
            args.dataset_name, args.split, args.domain, **reading_of(args), max_records=args.max_records
        )
    results: dict[str, Any] = {}
    for name in args.model_name_or_path:
        model, tokenizer = load_for_inference(name, args)
        if state.is_main_process:
            for warning in warnings_about(tokenizer, records):
                print(f"Warning: {name}: {warning}", file=sys.stderr)
        results[name] = evaluate_model(
            model,
            tokenizer,
            records,
            max_completion_length=args.max_completion_length,
            batch_size=args.batch_size,
            **sampling(args),
            distractors=args.eval_distractors,
            thinking=args.thinking,
            instructions=saved_instructions(name) if args.instructions is None else given,
            return_predictions=True,
        )
    if state.is_main_process:
        first = args.model_name_or_path[0]
        print(format_table(results, baseline=first if len(results) > 1 else None))
        if args.output_dir:
            paths = save_report(results if len(results) > 1 else results[first], args.output_dir)
            print("Written:", *paths.values())
