"""Evaluate reasoning models on prepared records: a table here; JSON, predictions and plots in a folder.

python recipes/evaluate.py --model out/sft prepared/base --data prepared --split test --output_dir report
accelerate launch recipes/evaluate.py --model user/name --limit 200 --num_samples 4 --temperature 0.6 --distractors

Several models are shown side by side, compared with the first. Without `--data` the built-in sample is used.
`--config FILE.yaml` holds any of the arguments below.
"""

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import TrlParser

from hf_reason.cli import check_model_name, one_line_errors
from hf_reason.data.load import load_cot_sft_dataset
from hf_reason.evaluation import evaluate_model, format_table, save_report
from hf_reason.models import with_saved_loar
from hf_reason.text import load_instructions, saved_instructions


@dataclass
class EvaluateArguments:
    model: list[str] = field(metadata={"help": "Folders or Hub names of the models."})
    data: str | None = field(default=None, metadata={"help": "Prepared folder or Hub data set."})
    domain: str = field(default="all", metadata={"help": "One domain, or all."})
    split: str = field(default="test", metadata={"help": "Split of the data."})
    limit: int | None = field(default=None, metadata={"help": "Only the first records of the split."})
    max_new_tokens: int = field(default=2048, metadata={"help": "Longest output, in tokens."})
    max_thought_tokens: int | None = field(default=None, metadata={"help": "Of them for the thought, then closed."})
    batch_size: int = field(default=16, metadata={"help": "Sequences generated at once, on each process."})
    num_samples: int = field(default=1, metadata={"help": "Outputs a record; more than one are sampled."})
    temperature: float | None = field(default=None, metadata={"help": "Sample with it. Default: greedy."})
    seed: int = field(default=0, metadata={"help": "Of the sampling and of the distractors."})
    distractors: bool = field(default=False, metadata={"help": "Also measure with noise in the problems."})
    output_dir: str | None = field(default=None, metadata={"help": "Folder for JSON, predictions and plots."})
    dtype: str = field(default="auto", metadata={"help": "Type of the weights: auto, float32, bfloat16, ..."})
    instructions: str | None = field(
        default=None, metadata={"help": "YAML of templates, or 'default'. Default: those saved beside each model."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


def load(name: str, arguments: EvaluateArguments, device: Any) -> tuple[Any, Any]:
    check_model_name(name)
    trust = arguments.trust_remote_code
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=arguments.dtype, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise ValueError(f"--model {name} cannot be loaded: {' '.join(str(error).split())}") from error
    return with_saved_loar(model, name).to(device), tokenizer


def main() -> int:
    kind: Any = EvaluateArguments
    (arguments,) = TrlParser(kind, description=__doc__).parse_args_and_config()
    state = PartialState(cpu=not torch.accelerator.is_available())
    names = "max_new_tokens", "max_thought_tokens", "batch_size", "num_samples", "temperature", "seed", "distractors"
    settings = {name: getattr(arguments, name) for name in names}
    results: dict[str, dict[str, Any]] = {}
    try:
        given = load_instructions(arguments.instructions)
        records = load_cot_sft_dataset(arguments.domain, arguments.split, arguments.data)
        records = records.select(range(min(arguments.limit or len(records), len(records))))
        for name in arguments.model:
            model, tokenizer = load(name, arguments, state.device)
            own = saved_instructions(name) if arguments.instructions is None else given
            results[name] = evaluate_model(
                model, tokenizer, records, instructions=own, return_predictions=True, **settings
            )
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if state.is_main_process:
        print(format_table(results, baseline=arguments.model[0] if len(results) > 1 else None))
        if arguments.output_dir:
            paths = save_report(results if len(results) > 1 else results[arguments.model[0]], arguments.output_dir)
            print("Written:", *paths.values())
    return 0


if __name__ == "__main__":
    with one_line_errors():
        code = main()
    sys.exit(code)
