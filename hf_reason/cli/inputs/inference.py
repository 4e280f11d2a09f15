"""A model that answers: loaded with its tokenizer and its LoAR, on the device where it runs."""

from pathlib import Path
from typing import Any

from hf_reason.cli.arguments import InferenceArguments
from hf_reason.cli.resume import last_checkpoint

from .models import cannot_load, check_model_name, check_tokenizer_files


def load_for_inference(name: str, args: InferenceArguments) -> tuple[Any, Any]:
    """Model and tokenizer of `evaluate` and `ask`.

    Args:
        name: Folder or Hub name.
        args: Which tokenizer, dtype and device, and whether code that comes with the model may run.

    Raises:
        ValueError: if one of them cannot be loaded.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_reason.models import with_saved_loar

    trust, tokenizer_name = args.trust_remote_code, args.tokenizer_name_or_path
    check_model_name(name)
    _check_folder(name)
    if tokenizer_name is None:
        check_tokenizer_files(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=args.dtype, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("model_name_or_path", name, error)) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name or name, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("tokenizer_name_or_path", tokenizer_name or name, error)) from error
    device = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available()).device
    return with_saved_loar(model, name).to(device).eval(), tokenizer


def sampling(args: InferenceArguments) -> dict[str, Any]:
    """The options that `evaluate_model` and `generate_cot` share."""
    names = ("max_thought_tokens", "num_samples", "vote", "temperature", "seed")
    return {name: getattr(args, name) for name in names}


def _check_folder(name: str) -> None:
    """Refuse a folder without a model, and name the last checkpoint of a training that is not finished."""
    folder = Path(name)
    if not folder.is_dir() or any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        return
    checkpoint = last_checkpoint(name)
    hint = f" Its training is not finished; the last checkpoint is {checkpoint}." if checkpoint else ""
    raise ValueError(f"There is no model in {name} (no config.json).{hint}")
