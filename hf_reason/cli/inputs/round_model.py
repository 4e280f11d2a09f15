"""The model of a round of continual learning: a fresh LoRA, its own one trained on, or all weights."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.cli.arguments import ContinualArguments, ScratchArguments
from hf_reason.models.adapter_loading import BASE_FOLDER, adapter_place, load_adapted
from hf_reason.models.adapter_merging import merge_adapter

from .models import load_model_and_tokenizer

if TYPE_CHECKING:
    from trl import ModelConfig

    from hf_reason.trainers import CoTSFTConfig


def load_round_model(
    round_args: ContinualArguments, model_args: "ModelConfig", args: "CoTSFTConfig", records: Any
) -> tuple[Any, Any]:
    """The model of a round and its tokenizer; `model_args.use_peft` says afterwards whether it gets a new LoRA.

    A finished model that is an adapter is either trained on (`continue`), or merged into its base first; a fresh LoRA
    then belongs to the merged model, which is kept in `output_dir/base`.

    Raises:
        ValueError: if `continue` is asked of a model without an adapter, the adapter's base is another one, or the two
            cannot be merged.
    """
    source = str(model_args.model_name_or_path)
    adapter = adapter_place(source, model_args.model_revision)
    model_args.use_peft = round_args.adapter == "fresh"
    if adapter is None:
        if round_args.adapter == "continue":
            raise ValueError(f"adapter='continue': {source} holds no adapter. Use adapter='fresh' or 'none'.")
        return load_model_and_tokenizer(model_args, ScratchArguments(), args, records)
    if round_args.adapter != "continue" and (model_args.load_in_4bit or model_args.load_in_8bit):
        raise ValueError(
            f"adapter={round_args.adapter!r} merges the adapter of {source} into its base, and quantised weights "
            "would be rounded again. Load it without load_in_4bit and load_in_8bit, or use adapter='continue'."
        )
    merged = Path(str(args.output_dir), BASE_FOLDER)
    tokenizers: list[Any] = []

    def load(base: str) -> Any:
        model_args.model_name_or_path = base
        try:
            tokenizer_of = ScratchArguments(tokenizer_name_or_path=source)
            model, tokenizer = load_model_and_tokenizer(model_args, tokenizer_of, args, records)
        except ValueError as error:
            raise ValueError(
                f"The adapter {source} belongs to the base {base}, which is not at hand: {error}"
            ) from error
        finally:
            model_args.model_name_or_path = source
        tokenizers.append(tokenizer)
        return model

    if round_args.adapter == "fresh" and (merged / "config.json").is_file():
        return load(str(merged)), tokenizers[0]
    trainable = round_args.adapter == "continue"
    adapted = load_adapted(adapter, load, trainable=trainable, revision=model_args.model_revision)
    if trainable:
        return adapted, tokenizers[0]
    whole = merge_adapter(adapted)
    if round_args.adapter == "fresh":
        with args.main_process_first(desc="writing the merged base"):
            if args.process_index == 0:
                partial = merged.with_name(BASE_FOLDER + ".partial")
                whole.save_pretrained(partial)
                tokenizers[0].save_pretrained(partial)
                os.replace(partial, merged)
        whole.config._name_or_path = whole.name_or_path = str(merged)
    return whole, tokenizers[0]
