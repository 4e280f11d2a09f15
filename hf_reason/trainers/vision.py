"""Vision-language models: text is trained as with any model, records with images here, other data as TRL trains it."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from hf_reason.data.images import IMAGES
from hf_reason.models.auto_class import NO_VISION, has_vision
from hf_reason.text.collator import ImageCollator
from hf_reason.text.multimodal import is_processor, tokenizer_in

from .cot_data import is_record_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .cot_sft_config import CoTSFTConfig


def tokenizer_of(processing_class: Any) -> "PreTrainedTokenizerBase":
    """The tokenizer of a processor, with the processor's chat template if it has none; a tokenizer as it is."""
    return tokenizer_in(processing_class)  # type: ignore[no-any-return]


def processor_for(model: Any, given: Any, trust_remote_code: bool) -> Any:
    """The processor of a model whose records have images.

    Args:
        model: The model, or its name.
        given: What was passed as processing class, if anything.
        trust_remote_code: Whether code that comes with it may run.

    Raises:
        ValueError: if the model reads text alone, or a tokenizer was passed.
    """
    from transformers import AutoConfig, AutoProcessor

    name = model if isinstance(model, str) else model.config.name_or_path
    config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code) if model is name else model.config
    if not has_vision(config):
        raise ValueError(NO_VISION.format(config.model_type))
    if given is None:
        given = AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    if not is_processor(given):
        raise ValueError(
            f"The records have images, and processing_class is a {type(given).__name__}, which reads text alone. Pass "
            "the model's processor (AutoProcessor), or train without the images (prepare --images drop)."
        )
    return given


def check_options(args: "CoTSFTConfig", *, teacher: bool, collator: Any, formatting_func: Any) -> None:
    """Refuse what records with images cannot be trained with.

    Args:
        args: The configuration.
        teacher: Whether there is one.
        collator: The user's, if any.
        formatting_func: The user's, if any.

    Raises:
        ValueError: naming it.
    """
    found = [
        name
        for name, is_set in (
            ("packing", args.packing or args.padding_free),
            ("mixup_alpha", args.mixup_alpha > 0),
            ("a teacher", teacher),
            (
                "a data_collator other than ImageCollator",
                collator is not None and not isinstance(collator, ImageCollator),
            ),
            ("formatting_func", formatting_func is not None),
        )
        if is_set
    ]
    if found:
        raise ValueError(
            f"The records have images, which are trained without {', '.join(found)}: the images of a row stand at "
            "their own places in it. Leave that out, or describe the images in the text (hf-reason augment --captions "
            "1 --replace)."
        )


def has_images(columns: Collection[str], processing_class: Any, args: "CoTSFTConfig", teacher: bool) -> bool:
    """Whether a data set in one of TRL's formats has images, which TRL's collator reads at each step.

    Args:
        columns: Of the data set.
        processing_class: The processor or tokenizer.
        args: The configuration.
        teacher: Whether there is one.

    Raises:
        ValueError: if it has images and the settings, its format or the processing class do not allow them.
    """
    found = sorted({IMAGES, "image"} & set(columns))
    if not found or is_record_dataset(list(columns)):
        return False
    column = found[0]
    if not is_processor(processing_class):
        raise ValueError(
            f"The data set has a column {column!r}, and processing_class is a tokenizer, which cannot read images. "
            "Pass the model's processor (AutoProcessor), or remove the column."
        )
    changed = [
        name
        for name, is_set in (
            ("weights, tasks or domain_target", args.is_weighted),
            ("label_smoothing_factor", args.label_smoothing_factor > 0),
            ("mixup_alpha", args.mixup_alpha > 0),
            ("domain_temperature or domain_ratios", args.samples_domains),
            ("curriculum", args.curriculum is not None),
            ("train_sampling_strategy='group_by_length'", args.train_sampling_strategy == "group_by_length"),
            ("packing", args.packing or args.padding_free),
            ("a teacher", teacher),
        )
        if is_set
    ]
    if changed:
        raise ValueError(
            f"The data set has images (column {column!r}), which are trained as trl.SFTTrainer does, without "
            f"{', '.join(changed)}. Leave that out, train on records with images, or train on text."
        )
    return True
