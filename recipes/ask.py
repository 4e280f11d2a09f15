"""Ask a trained model one question and see its steps.

python recipes/ask.py --model outputs/demo/cot --question "小明有12个苹果,又买来5个,卖出8个。现在有多少个苹果?"
python recipes/ask.py --model outputs/demo/cot --max_thought_tokens 256 --num_votes 8 --temperature 0.7
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar
from trl import TrlParser

from hf_reason import generate_cot
from hf_reason.cli import check_model_name, one_line_errors
from hf_reason.generation import CoTOutput
from hf_reason.models import with_saved_loar
from hf_reason.text import saved_instructions


@dataclass
class AskArguments:
    model: str = field(metadata={"help": "Folder or Hub name."})
    question: str | None = field(default=None, metadata={"help": "The problem; asked for when missing."})
    task: str = field(default="", metadata={"help": "What is asked of the reasoner."})
    domain: str = field(default="", metadata={"help": "Its instruction, if the model was trained with some."})
    max_thought_tokens: int = field(default=1024, metadata={"help": "A longer thought is closed by force."})
    max_answer_tokens: int = field(default=256, metadata={"help": "Longest answer, in tokens."})
    num_votes: int = field(default=1, metadata={"help": "Sample so many chains; the most frequent answer wins."})
    temperature: float | None = field(default=None, metadata={"help": "Sample with it. Default: greedy."})
    seed: int = field(default=0, metadata={"help": "Of the sampling."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


def typed_question() -> str:
    try:
        return input("Question: ")
    except EOFError:
        return ""


def show(question: str, output: CoTOutput) -> None:
    console = Console()
    console.print(f"[bold]Question:[/bold] {question}", highlight=False)
    for number, step in enumerate(output.steps, start=1):
        console.print(f"  {number}. {step}", highlight=False, markup=False)
    if output.forced:
        why = {"budget": "its tokens were used up", "stop": "the model stopped within it"}[output.closed_by]
        console.print(f"  (the thought was closed by force: {why})", highlight=False)
    for vote in output.votes:
        console.print(f"  {vote.count} of {len(output.chains)} chains: {vote.answer}", highlight=False, markup=False)
    cut = "" if output.ended else " ... (cut: max_answer_tokens)"
    console.print("[bold]Answer:[/bold]", end=" ")
    console.print((output.answer or "(none)") + cut, highlight=False, markup=False)


def main() -> None:
    (args,) = TrlParser((AskArguments,)).parse_args_and_config()  # type: ignore[arg-type]
    check_model_name(args.model)
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)
    with_saved_loar(model, args.model)
    model.to(PartialState(cpu=not torch.accelerator.is_available()).device).eval()
    question = args.question if args.question is not None else typed_question()
    if not question.strip():
        raise ValueError("There is no question. Pass --question, or type one.")
    names = ("max_thought_tokens", "max_answer_tokens", "num_votes", "temperature", "seed")
    options = {name: getattr(args, name) for name in names}
    record = {"context": question, "task": args.task, "domain": args.domain}
    (output,) = generate_cot(model, tokenizer, record, instructions=saved_instructions(args.model), **options)
    show(question, output)


if __name__ == "__main__":
    with one_line_errors():
        main()
