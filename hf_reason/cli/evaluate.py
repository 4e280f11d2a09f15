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

from .arguments import SourceArguments, as_list
from .generation_arguments import InferenceArguments, check_at_least_1, check_thought_budget


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
    thinking: list[bool] = option(
        default_factory=lambda: [True],
        help="False: ask a hybrid model for the answers without their thoughts; true false: both modes, side by side.",
    )
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
        modes = [self.thinking] if isinstance(self.thinking, bool) else self.thinking or []
        self.thinking = list(dict.fromkeys(modes))
        if not self.thinking:
            raise ValueError("thinking says no mode. Give true, false or both.")
        check_at_least_1(self, "max_completion_length", "batch_size")
        check_thought_budget(self.max_thought_tokens, "max_completion_length", self, any(self.thinking))


CLASSES = (EvaluateArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate; `argv` are the arguments after the command's name."""
    args: EvaluateArguments
    (args,) = parse("evaluate", CLASSES, argv)
    import torch
    from accelerate import PartialState

    from hf_reason.cli.inputs.datasets import load_evaluation_records, reading_of
    from hf_reason.cli.inputs.images import have_images
    from hf_reason.cli.inputs.inference import check_for_inference, load_for_inference, sampling, tokenizer_of
    from hf_reason.data.output_folder import check_output_dir
    from hf_reason.evaluation import evaluate_model, format_table, save_report
    from hf_reason.text import load_instructions, saved_instructions
    from hf_reason.trainers.launch import check_world_size

    from .start import warnings_about

    state = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available())
    check_world_size(args.expected_world_size)
    if args.output_dir:
        check_output_dir(args.output_dir)
    given = load_instructions(args.instructions)
    for name in args.model_name_or_path:  # before the first has generated for an hour
        check_for_inference(name, args)
        check_has_modes(name, tokenizer_of(name, args), args.thinking)
    with state.main_process_first():
        records: Any = load_evaluation_records(
            args.dataset_name, args.split, args.domain, **reading_of(args), max_records=args.max_records
        )
    results: dict[str, Any] = {}
    for name in args.model_name_or_path:
        model, tokenizer = load_for_inference(name, args, have_images(records))
        if state.is_main_process:
            for warning in warnings_about(tokenizer, records):
                print(f"Warning: {name}: {warning}", file=sys.stderr)
        for thinking in args.thinking:
            options = sampling(args)
            if not thinking and len(args.thinking) > 1:  # it is for the thoughts of the other mode
                options["max_thought_tokens"] = None
            results[in_mode(name, thinking, args.thinking)] = evaluate_model(
                model,
                tokenizer,
                records,
                max_completion_length=args.max_completion_length,
                batch_size=args.batch_size,
                **options,
                distractors=args.eval_distractors,
                thinking=thinking,
                instructions=saved_instructions(name) if args.instructions is None else given,
                return_predictions=True,
            )
    if state.is_main_process:
        print("\n\n".join(format_table(part, baseline=base) for part, base in tables(results, args)))
        if args.output_dir:
            single = len(results) == 1
            paths = save_report(next(iter(results.values())) if single else results, args.output_dir)
            print("Written:", *paths.values())


def in_mode(name: str, thinking: bool, modes: Sequence[bool]) -> str:
    """What the results of a model are called: its name, with the mode where both are measured."""
    return name if len(modes) == 1 else f"{name} ({'thinking' if thinking else 'no thinking'})"


def check_has_modes(name: str, tokenizer: Any, modes: Sequence[bool]) -> None:
    """Refuse to measure two modes of a model that has one.

    Raises:
        ValueError: if its chat template has no switch.
    """
    from hf_reason.text.modes import has_switch

    if len(modes) > 1 and not has_switch(tokenizer):
        raise ValueError(
            f"{name}: its chat template has no switch between thinking and not (enable_thinking), so both modes would "
            "be asked by the same prompt. Give --thinking true or --thinking false."
        )


def tables(results: dict[str, Any], args: EvaluateArguments) -> list[tuple[dict[str, Any], str | None]]:
    """The results of each table, with the name of those that the others are compared with.

    One model: its modes side by side. Several: a table for each mode, compared with the first model in that mode.
    """
    names, modes = args.model_name_or_path, args.thinking
    if len(names) == 1:
        return [(results, next(iter(results)) if len(results) > 1 else None)]
    parts = [[in_mode(name, thinking, modes) for name in names] for thinking in modes]
    return [({name: results[name] for name in part}, part[0]) for part in parts]
