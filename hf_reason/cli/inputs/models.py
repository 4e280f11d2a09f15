"""A model and its tokenizer: loaded by name, or built from scratch with a tokenizer made from the data."""

import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._network import why_unreachable
from hf_reason.cli.arguments import ScratchArguments
from hf_reason.models import with_saved_loar
from hf_reason.models.adapter_loading import adapter_place
from hf_reason.models.auto_class import NO_VISION
from hf_reason.models.quantized_loading import load_causal_lm
from hf_reason.models.weight_files import base_of_adapter, readable_weights
from hf_reason.text import render, train_tokenizer

from .images import check_reads_images, have_images, load_processor

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig


# What StepReasonerConfig.set_tokens accepts as text, and the field in which `model_config` may give the ids instead.
_TOKEN_TEXTS = {
    "thought_start": "thought_start_token_ids",
    "boundaries": "boundary_token_ids",
    "triggers": "trigger_token_ids",
}


def _texts(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for record in records:
        yield from render(record).values()


def _scratch_tokenizer(
    arguments: ScratchArguments, training_args: "CoTSFTConfig", records: Iterable[Mapping[str, Any]]
) -> "PreTrainedTokenizerBase":
    """Train the tokenizer once; a resumed run and the other processes load it."""
    from transformers import AutoTokenizer

    folder = Path(training_args.output_dir) / "tokenizer"
    with training_args.main_process_first(desc="training the tokenizer"):
        if not (folder / "tokenizer_config.json").is_file():
            tokenizer = train_tokenizer(_texts(records), arguments.vocab_size)
            partial = folder.with_name("tokenizer.partial")
            tokenizer.save_pretrained(partial)
            os.replace(partial, folder)
        return AutoTokenizer.from_pretrained(folder)


def peft_config_of(model_args: "ModelConfig") -> Any:
    """TRL's `get_peft_config`, in which a single name of `lora_target_modules` stays a name.

    TRL makes a text of it, which PEFT reads as a pattern of whole names, such as `model.layers.0.self_attn.q_proj`.
    """
    from trl import get_peft_config

    config: Any = get_peft_config(model_args)
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, str) and targets.isidentifier():
        config.target_modules = {targets}
    return config


def load_model_and_tokenizer(
    model_args: "ModelConfig",
    scratch: ScratchArguments,
    training_args: "CoTSFTConfig",
    records: Iterable[Mapping[str, Any]],
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model of a training run.

    Args:
        model_args: TRL's model arguments; with a `model_name_or_path` the model is loaded.
        scratch: Used without one: the model is built with random weights (seeded by `training_args.seed`).
        training_args: For the seed, the output folder and `trust_remote_code`.
        records: Training records, read only to train a tokenizer.

    Returns:
        The model and its tokenizer; its processor, where the records have images.

    Raises:
        ValueError: if the name cannot be loaded, the config has unknown fields, or the records have images and the
            model reads text alone.
    """
    import torch
    from transformers import AutoTokenizer, set_seed
    from trl import get_quantization_config

    name = model_args.model_name_or_path
    trust = training_args.trust_remote_code
    if name is None and not scratch.model_config:
        raise ValueError(
            "There is no model. Give model_name_or_path, or model_config (hidden_size, num_hidden_layers, ...) for a "
            "model from scratch."
        )
    tokenizer_name = scratch.tokenizer_name_or_path or name
    images = have_images(records)
    if name is None and images:
        raise ValueError(NO_VISION.format("which is made from scratch"))
    if name is not None:
        check_model_name(name)
        check_base_of_adapter(name)
        if os.path.isdir(name) and adapter_place(name) is not None:
            raise ValueError(
                f"{name} is an adapter, which has no weights of its own to train. Train it further with "
                "'hf-reason continual --adapter continue', or a new one on its merge with --adapter fresh."
            )
        if model_args.load_in_4bit or model_args.load_in_8bit:
            _require_bitsandbytes()
        check_tokenizer_files(str(tokenizer_name))
    try:
        if name is None:
            return _build(scratch, training_args, records)
        if images:
            check_reads_images(name, trust)
            tokenizer = load_processor(str(tokenizer_name), trust_remote_code=trust)
        else:
            tokenizer = AutoTokenizer.from_pretrained(
                tokenizer_name, revision=model_args.model_revision, trust_remote_code=trust
            )
        quantization = get_quantization_config(model_args)
        dtype = model_args.dtype if model_args.dtype in ("auto", None) else getattr(torch, model_args.dtype)
        set_seed(training_args.seed)
        with readable_weights(name):
            model = load_causal_lm(
                name,
                images=images,
                revision=model_args.model_revision,
                dtype=dtype,
                attn_implementation=model_args.attn_implementation,
                trust_remote_code=trust,
                **({"quantization_config": quantization, "device_map": {"": _local_device()}} if quantization else {}),
            )
            return with_saved_loar(model, name, model_args.model_revision), tokenizer
    except OSError as error:
        raise ValueError(cannot_load("model_name_or_path", name, error)) from error


def _require_bitsandbytes() -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("load_in_4bit and load_in_8bit need bitsandbytes: pip install 'hf_reason[bnb]'.")


def check_model_name(name: str) -> None:
    """Refuse what can only be a folder and is not there; the Hub would only say that it is no name of its kind.

    Raises:
        ValueError: if `name` cannot be a Hub name and no such folder exists.
    """
    if _is_missing_folder(name):
        raise ValueError(f"{name}: there is no such folder, and it is no name of a model on the Hub.")


def check_base_of_adapter(name: str) -> None:
    """Refuse an adapter whose base model is not where its `adapter_config.json` says.

    Raises:
        ValueError: if the base cannot be a Hub name and no such folder exists.
    """
    base = base_of_adapter(name)
    if base is not None and _is_missing_folder(base):
        raise ValueError(_base_not_found(name, base))


def _is_missing_folder(name: str) -> bool:
    return not os.path.isdir(name) and (name.count("/") > 1 or name.startswith((".", "/", "~")))


def _base_not_found(name: str, base: str) -> str:
    return (
        f"{name} is an adapter of {base}, and there is no such folder here ({os.getcwd()}). Run the command from the "
        f"folder where {base} is, put the base into {os.path.join(name, 'base')}, or write the place of the base as "
        f"base_model_name_or_path into {name}/adapter_config.json."
    )


# What a tokenizer may be saved as: fast, SentencePiece, byte-pair vocabularies, and the config that names its class.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "*.tiktoken",
)


def check_tokenizer_files(name: str) -> None:
    """Refuse a folder without a tokenizer, for which transformers may build an empty one.

    Raises:
        ValueError: if `name` is such a folder.
    """
    folder = Path(name)
    if folder.is_dir() and not any(path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)):
        raise ValueError(f"There are no tokenizer files in {name}. Give tokenizer_name_or_path.")


def cannot_load(argument: str, name: str | None, error: Exception) -> str:
    """One line about a model that cannot be loaded; a name that may be a mistyped folder is said to be no folder."""
    reason = " ".join(str(error).split())
    if name is not None and not os.path.isdir(name) and (unreachable := why_unreachable(error)) is not None:
        return (
            f"{argument}={name!r}: there is no such folder, and the Hub cannot be reached: {unreachable}. Run the "
            "same command again: what was downloaded is kept."
        )
    base = None if name is None else base_of_adapter(name)
    if name is not None and base is not None and not os.path.isdir(base):
        return f"{_base_not_found(name, base)} As a Hub name it cannot be loaded: {reason}"
    if name is None or os.path.isdir(name):
        return f"{argument}={name!r} cannot be loaded: {reason}"
    return f"{argument}={name!r}: there is no such folder, and as a Hub name it cannot be loaded: {reason}"


def _local_device() -> Any:
    from accelerate import PartialState

    return PartialState().device


def _build(
    scratch: ScratchArguments, training_args: "CoTSFTConfig", records: Iterable[Mapping[str, Any]]
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    if scratch.tokenizer_name_or_path:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            scratch.tokenizer_name_or_path, trust_remote_code=training_args.trust_remote_code
        )
    else:
        tokenizer = _scratch_tokenizer(scratch, training_args, records)
    config = _config(scratch.model_type, dict(scratch.model_config or {}), tokenizer)  # type: ignore[arg-type]
    set_seed(training_args.seed)
    return AutoModelForCausalLM.from_config(config), tokenizer


def _config(model_type: str, settings: dict[str, Any], tokenizer: "PreTrainedTokenizerBase") -> "PretrainedConfig":
    """The config of a model from scratch: the user's settings, and what the tokenizer says."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(model_type)
    needs_tokens = hasattr(known, "set_tokens")
    texts = {name: settings.pop(name) for name in _TOKEN_TEXTS if needs_tokens and name in settings}
    unknown = [field_name for field_name in settings if not hasattr(known, field_name)]
    if unknown:
        raise ValueError(f"model_config: {model_type} has no field {', '.join(unknown)}. Check the spelling.")
    if "num_attention_heads" in settings and hasattr(known, "num_key_value_heads"):
        # the type's own default belongs to its own default width
        settings.setdefault("num_key_value_heads", settings["num_attention_heads"])
    config = AutoConfig.for_model(
        model_type,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **settings,
    )
    if needs_tokens:
        for name, ids in _TOKEN_TEXTS.items():
            if ids in settings and name in texts:
                raise ValueError(f"model_config gives {name} and {ids}, which say the same. Leave one out.")
        config.set_tokens(tokenizer, **{name: None for name, ids in _TOKEN_TEXTS.items() if ids in settings}, **texts)
    return config
