"""A model that answers: loaded with its tokenizer and its LoAR, on the device where it runs."""

from pathlib import Path
from typing import Any

from .models import cannot_load, check_model_name, check_tokenizer_files
from .resume import last_checkpoint


def load_for_inference(
    name: str,
    tokenizer_name: str | None = None,
    *,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    use_cpu: bool = False,
) -> tuple[Any, Any]:
    """Model and tokenizer of `evaluate` and `ask`.

    Args:
        name: Folder or Hub name.
        tokenizer_name: Where the tokenizer is, if not beside the model.
        dtype: Type of the weights, as `from_pretrained` accepts it.
        trust_remote_code: Whether code that comes with the model may run.
        use_cpu: Leave an accelerator alone.

    Raises:
        ValueError: if one of them cannot be loaded.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_reason.models import with_saved_loar

    check_model_name(name)
    _check_folder(name)
    if tokenizer_name is None:
        check_tokenizer_files(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("model_name_or_path", name, error)) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_name or name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("tokenizer_name_or_path", tokenizer_name or name, error)) from error
    device = PartialState(cpu=use_cpu or not torch.accelerator.is_available()).device
    return with_saved_loar(model, name).to(device).eval(), tokenizer


def _check_folder(name: str) -> None:
    """Refuse a folder without a model, and name the last checkpoint of a training that is not finished."""
    folder = Path(name)
    if not folder.is_dir() or any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        return
    checkpoint = last_checkpoint(name)
    hint = f" Its training is not finished; the last checkpoint is {checkpoint}." if checkpoint else ""
    raise ValueError(f"There is no model in {name} (no config.json).{hint}")
