"""Ask a trained model one question and see its steps.

python recipes/ask.py --model outputs/demo/cot --question "小明有12个苹果,又买来5个,卖出8个。现在有多少个苹果?"
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar
from trl import TrlParser

from hf_reason.runs import check_model_name, one_line_errors
from hf_reason.text import encode_prompt, parse, saved_instructions
from hf_reason.text.render import build_prompt, opened_by_prompt


@dataclass
class AskArguments:
    model: str = field(metadata={"help": "Folder or Hub name."})
    question: str | None = field(default=None, metadata={"help": "The problem; asked for when missing."})
    task: str = field(default="", metadata={"help": "What is asked of the reasoner."})
    domain: str = field(default="", metadata={"help": "Its instruction, if the model was trained with some."})
    max_new_tokens: int = field(default=1024, metadata={"help": "Longest output, in tokens."})
    temperature: float | None = field(default=None, metadata={"help": "Sample with it. Default: greedy."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


def typed_question() -> str:
    try:
        return input("Question: ")
    except EOFError:
        return ""


def main() -> None:
    (args,) = TrlParser((AskArguments,)).parse_args_and_config()  # type: ignore[arg-type]
    check_model_name(args.model)
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)
    model: Any = AutoModelForCausalLM.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)
    model.to(PartialState(cpu=not torch.accelerator.is_available()).device).eval()
    question = args.question if args.question is not None else typed_question()
    if not question.strip():
        raise ValueError("There is no question. Pass --question, or type one.")
    record = {"context": question, "task": args.task, "domain": args.domain}
    instructions = saved_instructions(args.model)
    prompt = torch.tensor([encode_prompt(record, tokenizer, instructions=instructions)], device=model.device)
    sampling = (
        {"do_sample": False} if args.temperature is None else {"do_sample": True, "temperature": args.temperature}
    )
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=args.max_new_tokens, **sampling
    )
    text = str(tokenizer.decode(output[0, prompt.shape[1] :], skip_special_tokens=True))
    parsed = parse(opened_by_prompt(build_prompt(record, tokenizer, instructions=instructions)) + text)
    console = Console()
    console.print(f"[bold]Question:[/bold] {question}", highlight=False)
    for number, step in enumerate(parsed.steps, start=1):
        console.print(f"  {number}. {step}", highlight=False, markup=False)
    answer = parsed.answer if parsed.closed else f"(none: the thought was not closed in {args.max_new_tokens} tokens)"
    console.print(f"[bold]Answer:[/bold] {answer}", highlight=False)


if __name__ == "__main__":
    with one_line_errors():
        main()
