"""The model of a round of continual learning: a fresh LoRA, its own one trained on, or all weights."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.cli.arguments import ContinualArguments, ScratchArguments

from .models import load_model_and_tokenizer

if TYPE_CHECKING:
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig

MERGED_FOLDER = "base"


def load_round_model(
    round_args: ContinualArguments, model_args: "ModelConfig", args: "CoTSFTConfig", records: Any
) -> tuple[Any, Any]:
    """The model of a round and its tokenizer; `model_args.use_peft` says afterwards whether it gets a new LoRA.

    A finished model that is an adapter is either trained on (`continue`), or merged into its base first; a fresh LoRA
    then belongs to the merged model, which is kept in `output_dir/base`.

    Raises:
        ValueError: if `continue` is asked of a model without an adapter, or the adapter's base is another one.
    """
    from peft import PeftModel
    from transformers.utils.peft_utils import find_adapter_config_file

    from hf_reason.models.peft_adapters import check_base

    source = str(model_args.model_name_or_path)
    model_args.use_peft = round_args.adapter == "fresh"
    if find_adapter_config_file(source, revision=model_args.model_revision) is None:
        if round_args.adapter == "continue":
            raise ValueError(f"adapter='continue': {source} holds no adapter. Use adapter='fresh' or 'none'.")
        return load_model_and_tokenizer(model_args, ScratchArguments(), args, records)
    if round_args.adapter != "continue" and (model_args.load_in_4bit or model_args.load_in_8bit):
        raise ValueError(
            f"adapter={round_args.adapter!r} merges the adapter of {source} into its base, and quantised weights "
            "would be rounded again. Load it without load_in_4bit and load_in_8bit, or use adapter='continue'."
        )
    merged = Path(str(args.output_dir), MERGED_FOLDER)
    resumed = round_args.adapter == "fresh" and (merged / "config.json").is_file()
    base = str(merged) if resumed else _base_of(source)
    model_args.model_name_or_path = base
    try:
        tokenizer_of = ScratchArguments(tokenizer_name_or_path=source)
        model, tokenizer = load_model_and_tokenizer(model_args, tokenizer_of, args, records)
    except ValueError as error:
        raise ValueError(f"The adapter {source} belongs to the base {base}, which is not at hand: {error}") from error
    finally:
        model_args.model_name_or_path = source
    if resumed:
        return model, tokenizer
    check_base(source, model)
    try:
        adapted: Any = PeftModel.from_pretrained(model, source, is_trainable=round_args.adapter == "continue")
    except RuntimeError as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(
            f"The adapter {source} does not fit {base}, which it names as its base: {what}. Put the base that it was "
            "trained on back in that place, or correct base_model_name_or_path in its adapter_config.json."
        ) from error
    if round_args.adapter == "continue":
        for config in adapted.peft_config.values():
            config.base_model_name_or_path = base  # where it was found, which may not be where it was
        return adapted, tokenizer
    whole = adapted.merge_and_unload()
    if round_args.adapter == "fresh":
        with args.main_process_first(desc="writing the merged base"):
            if args.process_index == 0:
                partial = merged.with_name(MERGED_FOLDER + ".partial")
                whole.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
                os.replace(partial, merged)
        whole.config._name_or_path = whole.name_or_path = str(merged)
    return whole, tokenizer


def _base_of(source: str) -> str:
    """The base model of an adapter; one that came with it, in its folder `base`, is used wherever the two are now."""
    from peft import PeftConfig

    base, beside = PeftConfig.from_pretrained(source).base_model_name_or_path, Path(source, MERGED_FOLDER)
    if not base:
        raise ValueError(f"{source}/adapter_config.json names no base model. Write it: base_model_name_or_path.")
    return str(beside) if not os.path.isdir(base) and (beside / "config.json").is_file() else str(base)
