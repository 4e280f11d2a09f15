"""`generate-traces`: a teacher answers problems several times; what is verified becomes data to train on.

The teacher is a model in this process or behind a server with OpenAI's API. The folder that is written can be given to
`prepare`, `sft` and `distill`, its pairs to TRL's DPO trainer, its pass rates to `difficulty_from`.
"""

import sys
from collections.abc import Sequence

from hf_reason.cli.parsing.parser import parse

from .errors import on_interrupt
from .trace_arguments import GenerateTracesArguments

CLASSES = (GenerateTracesArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Generate traces; `argv` are the arguments after the command's name."""
    args: GenerateTracesArguments
    (args,) = parse("generate-traces", CLASSES, argv)
    from hf_reason.cli.inputs.trace_teacher import cache_traces, load_problems, load_teacher
    from hf_reason.data.output_folder import check_output_apart, check_output_dir
    from hf_reason.text import load_instructions
    from hf_reason.traces.generate import generate_traces
    from hf_reason.traces.report import ProgressLine, format_report

    on_interrupt(lambda: "What is written stays; the same command asks for the samples that are missing.")
    check_output_dir(args.output_dir)
    check_output_apart(args.output_dir, args.dataset_name or [], [args.teacher_model_name_or_path])
    instructions = load_instructions(args.instructions)
    problems, notes = load_problems(args)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    teacher = load_teacher(args, instructions)
    report = generate_traces(
        problems,
        teacher.writer,
        args.settings(),
        args.output_dir,
        teacher=teacher.name,
        identity=teacher.identity,
        instructions=instructions,
        progress=lambda total, done: ProgressLine(total, done, args.price_per_million_tokens),
    )
    print(format_report(report, args.price_per_million_tokens))
    if args.logprobs and report["counts"]["kept"]:
        print(cache_traces(args, teacher.writer))
    print(f"Written: {args.output_dir}")
