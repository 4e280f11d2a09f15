"""A model that answers: loaded with its tokenizer and its LoAR, on the device where it runs."""

from pathlib import Path
from typing import Any

from hf_reason.cli.generation_arguments import InferenceArguments
from hf_reason.models.adapter_loading import adapter_place, load_adapted
from hf_reason.models.peft_adapters import AdapterError
from hf_reason.models.quantized_loading import MissingExtraError, load_causal_lm
from hf_reason.models.weight_files import DamagedWeightsError, base_of_adapter, readable_weights
from hf_reason.trainers.resuming import last_checkpoint

from .images import check_reads_images, load_processor
from .models import cannot_load, check_base_of_adapter, check_model_name, check_tokenizer_files


def check_for_inference(name: str, args: InferenceArguments) -> None:
    """Whether a model can be loaded, as far as its weights need not be read for it.

    Raises:
        ValueError: if there is no such model, or it has no tokenizer.
    """
    _check_place(name)
    tokenizer_of(name, args)


def load_for_inference(name: str, args: InferenceArguments, images: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer of `evaluate` and `ask`; with images its processor in the tokenizer's place.

    Args:
        name: Folder or Hub name.
        args: Which tokenizer, dtype and device, and whether code that comes with the model may run.
        images: Whether it is to read images.

    Raises:
        ValueError: if one of them cannot be loaded, or the model does not read images that it is to read.
    """
    import torch
    from accelerate import PartialState

    from hf_reason.models import with_saved_loar

    _check_place(name)
    if args.tokenizer_name_or_path is None:
        check_tokenizer_files(name)

    if images:
        check_reads_images(base_of_adapter(name) or name, args.trust_remote_code)

    def load(place: str) -> Any:
        model = load_causal_lm(place, images=images, dtype=args.dtype, trust_remote_code=args.trust_remote_code)
        return with_saved_loar(model, name)

    try:
        with readable_weights(name):
            adapter = adapter_place(name)
            model = load(name) if adapter is None else load_adapted(adapter, load)
    except (AdapterError, DamagedWeightsError, MissingExtraError):
        raise
    except (OSError, ValueError) as error:
        raise ValueError(cannot_load("model_name_or_path", name, error)) from error
    tokenizer = processor_of(name, args) if images else tokenizer_of(name, args)
    device = PartialState(cpu=args.use_cpu or not torch.accelerator.is_available()).device
    return model.to(device).eval(), tokenizer


def tokenizer_of(name: str, args: InferenceArguments) -> Any:
    """The tokenizer of a model, or the one that the arguments name.

    Raises:
        ValueError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    source = args.tokenizer_name_or_path or name
    if args.tokenizer_name_or_path is None:
        check_tokenizer_files(name)
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError) as error:
        argument = "model_name_or_path" if args.tokenizer_name_or_path is None else "tokenizer_name_or_path"
        raise ValueError(cannot_load(argument, source, error)) from error


def processor_of(name: str, args: InferenceArguments) -> Any:
    """The processor of a model, or the one that the arguments name.

    Raises:
        ValueError: if it cannot be loaded.
    """
    return load_processor(args.tokenizer_name_or_path or name, trust_remote_code=args.trust_remote_code)


def sampling(args: InferenceArguments) -> dict[str, Any]:
    """The options that `evaluate_model` and `generate_cot` share."""
    names = ("max_thought_tokens", "num_samples", "vote", "temperature", "seed")
    return {name: getattr(args, name) for name in names}


def _check_place(name: str) -> None:
    """Refuse a folder without a model, and name the last checkpoint of a training that is not finished."""
    check_model_name(name)
    check_base_of_adapter(name)
    folder = Path(name)
    if not folder.is_dir() or (folder / "config.json").is_file() or adapter_place(name) is not None:
        return
    checkpoint = last_checkpoint(name)
    hint = f" Its training is not finished; the last checkpoint is {checkpoint}." if checkpoint else ""
    raise ValueError(f"There is no model in {name} (no config.json).{hint}")
