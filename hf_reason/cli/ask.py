"""`ask`: ask a model one question and see its steps."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason._visible import visible
from hf_reason.cli.parsing.parser import parse

from .generation_arguments import InferenceArguments
from .terminal import readable

if TYPE_CHECKING:
    from rich.console import Console

    from hf_reason.generation import CoTOutput


@renamed(model="model_name_or_path")
@dataclass
class AskArguments(InferenceArguments):
    """Which model is asked what."""

    model_name_or_path: str = option("", "Folder or Hub name of the model. (required)")
    question: str | None = option(None, "The problem; without it, it is asked for.")
    task: str = option("", "What is asked of the reasoner.")
    domain: str = option("", "Use the model's template for this domain, if it was trained with templates.")
    max_thought_tokens: int = option(1024, "Longest thought in tokens; a longer one is closed by force.")
    max_answer_tokens: int = option(256, "Longest answer in tokens.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model_name_or_path:
            raise ValueError("there is no model. Give --model_name_or_path.")


CLASSES = (AskArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Ask; `argv` are the arguments after the command's name."""
    args: AskArguments
    (args,) = parse("ask", CLASSES, argv)
    from transformers.utils.logging import disable_progress_bar

    from hf_reason.cli.inputs.inference import load_for_inference, sampling
    from hf_reason.generation import generate_cot
    from hf_reason.text import saved_instructions

    from .start import warnings_about

    disable_progress_bar()
    model, tokenizer = load_for_inference(args.model_name_or_path, args)
    templates = saved_instructions(args.model_name_or_path)
    _check_domain(args.domain, templates)
    question = args.question if args.question is not None else readable([_typed_question()])[0]
    if not question.strip():
        raise ValueError("there is no question. Give --question, or type one.")
    for warning in warnings_about(tokenizer, [{"context": question, "steps": [], "answer": ""}]):
        print(f"Warning: {warning}", file=sys.stderr)
    (output,) = generate_cot(
        model,
        tokenizer,
        {"context": question, "task": args.task, "domain": args.domain},
        instructions=templates,
        max_answer_tokens=args.max_answer_tokens,
        **sampling(args),
    )
    show(question, output)


def _check_domain(domain: str, templates: Mapping[str, str]) -> None:
    """Say which templates a model was trained with when none is used, and when a domain has no effect."""
    if domain and not templates:
        print(f"Note: the model has no templates for domains, so --domain {domain} has no effect.", file=sys.stderr)
    if templates and domain not in templates:
        names = ", ".join(templates)
        what = f"it has none for {domain!r}" if domain else "none is used without --domain"
        print(f"Note: the model was trained with templates for {names}; {what}.", file=sys.stderr)


def _typed_question() -> str:
    # a pipe has no use for the prompt, which would stand before the question that is shown
    try:
        return input("Question: " if sys.stdin.isatty() else "")
    except EOFError:
        return ""


def show(question: str, output: "CoTOutput") -> None:
    """Print the steps and the answer: of each chain if there are several without a vote, else with the votes."""
    from rich.console import Console

    console = Console()
    console.print("[bold]Question:[/bold]", end=" ")
    console.print(visible(question), highlight=False, markup=False)
    if output.chains and not output.votes:
        for number, chain in enumerate(output.chains, start=1):
            console.print(f"[bold]Chain {number} of {len(output.chains)}[/bold]", highlight=False)
            _show_chain(console, chain)
    else:
        _show_chain(console, output)


def _show_chain(console: "Console", output: "CoTOutput") -> None:
    for number, step in enumerate(output.steps, start=1):
        console.print(visible(f"  {number}. {step}"), highlight=False, markup=False)
    if output.forced:
        why = {"budget": "its tokens were used up", "stop": "the model stopped within it"}[output.closed_by]
        console.print(f"  (the thought was closed by force: {why})", highlight=False)
    for vote in output.votes:
        told = visible(f"  {vote.count} of {len(output.chains)} chains: {vote.answer}")
        console.print(told, highlight=False, markup=False)
    cut = "" if output.ended else " ... (cut: max_answer_tokens)"
    console.print("[bold]Answer:[/bold]", end=" ")
    console.print(visible(output.answer or "(none)") + cut, highlight=False, markup=False)
