"""`export-gguf`: one file for llama.cpp, Ollama and LM Studio, read again and compared with the model."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_reason._options import option
from hf_reason.cli.parsing.parser import parse

_PROBLEMS = (
    "小明有3个苹果，又买了5个，吃掉2个，还剩几个？",
    "A train travels 60 km in 1.5 hours. What is its average speed?",
    "如果所有的猫都怕水，汤姆是猫，那么汤姆怕水吗？",
)


@dataclass
class ExportGgufArguments:
    """What is written where, and how exactly."""

    model_name_or_path: str = option("", "Folder or Hub name of the model; adapters are merged. (required)")
    outfile: str = option("", "The file, *.gguf. (required)")
    outtype: str = option(
        "q8_0", "Type of the matrices: 32, 16, 16, 8.5 or 4.5 bits.", choices=("f32", "f16", "bf16", "q8_0", "q4_0")
    )
    max_kl: float = option(0.1, "Largest mean KL divergence from the model, nats a token, before a file is refused.")
    tokenizer_name_or_path: str | None = option(None, "Tokenizer. Default: the model's own.")

    def __post_init__(self) -> None:
        for name in ("model_name_or_path", "outfile"):
            if not getattr(self, name):
                raise ValueError(f"there is no {name}. Give --{name}.")
        if not self.outfile.endswith(".gguf"):
            raise ValueError(f"outfile {self.outfile} must end in .gguf, by which programs know the format.")
        if not self.max_kl > 0:
            raise ValueError(f"max_kl must be above 0, got {self.max_kl}.")


CLASSES = (ExportGgufArguments,)


def main(argv: Sequence[str] | None = None) -> None:
    """Export; `argv` are the arguments after the command's name."""
    args: ExportGgufArguments
    (args,) = parse("export-gguf", CLASSES, argv)
    from hf_reason.compression.gguf import import_gguf, write_gguf
    from hf_reason.compression.gguf_check import check_gguf

    import_gguf()
    target = Path(args.outfile)
    if target.exists():
        raise ValueError(f"{target} is there already: remove it, or choose another outfile.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"outfile {target} cannot be made: {target.parent} is not writable. Choose another outfile.")
    model, tokenizer = _load(args)
    half = target.with_name(f"{target.name}.tmp.gguf")
    half.unlink(missing_ok=True)
    try:
        export = write_gguf(model, tokenizer, half, args.outtype, name=target.stem)
        found = check_gguf(half, model, tokenizer, export, _prompts(tokenizer), max_kl=args.max_kl)
        os.replace(half, target)
    finally:
        half.unlink(missing_ok=True)
    for note in [*export.notes, *found.notes, *_instructions(args)]:
        print(note)
    kinds = ", ".join(f"{count} {kind}" for kind, count in export.types.items())
    print(f"Checked: {found}.\n{target}: {target.stat().st_size / 1e6:.1f} MB, {kinds}")


def _load(args: ExportGgufArguments) -> tuple[Any, Any]:
    """The model as dense weights in float32 on the CPU, adapters merged, and its tokenizer."""
    from peft import PeftModel

    from hf_reason.cli.generation_arguments import InferenceArguments
    from hf_reason.cli.inputs.inference import load_for_inference
    from hf_reason.compression.gptq import dequantize
    from hf_reason.models.loar import has_loar

    place = args.model_name_or_path
    if has_loar(place):
        raise ValueError(f"{place} has a LoAR, whose routing GGUF cannot say: export the model before it.")
    options = InferenceArguments(tokenizer_name_or_path=args.tokenizer_name_or_path, dtype="float32", use_cpu=True)
    model, tokenizer = load_for_inference(place, options)
    if isinstance(model, PeftModel):
        if any(config.is_prompt_learning for config in model.peft_config.values()):
            raise ValueError(f"{place} is an adapter of virtual tokens, which GGUF cannot say.")
        model = model.merge_and_unload()
    method = getattr(getattr(model, "quantization_method", None), "value", None)
    if method == "bitsandbytes":
        model = model.dequantize()
    return dequantize(model).float().eval(), tokenizer


def _prompts(tokenizer: Any) -> list[str]:
    """Problems as the model is asked them; plain, for a tokenizer without a template."""
    from hf_reason.text.chat import apply_chat_template

    if not tokenizer.chat_template:
        return list(_PROBLEMS)
    asked = [[{"role": "user", "content": problem}] for problem in _PROBLEMS]
    return [apply_chat_template(tokenizer, chat, add_generation_prompt=True) for chat in asked]


def _instructions(args: ExportGgufArguments) -> list[str]:
    from hf_reason.text import saved_instructions

    if not saved_instructions(args.model_name_or_path):
        return []
    return ["The model was trained with a template for each domain, which GGUF cannot hold: write it in the question."]
