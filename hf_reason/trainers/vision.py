"""Vision-language models: text is trained as with any model, images only as TRL trains them."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from transformers import ProcessorMixin

from .cot_data import is_record_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .cot_sft_config import CoTSFTConfig

_IMAGES = {"image", "images"}


def tokenizer_of(processing_class: Any) -> "PreTrainedTokenizerBase":
    """The tokenizer of a processor, with the processor's chat template if it has none; a tokenizer as it is."""
    if not isinstance(processing_class, ProcessorMixin):
        return processing_class  # type: ignore[no-any-return]
    tokenizer: Any = processing_class.tokenizer
    if not tokenizer.chat_template:
        tokenizer.chat_template = getattr(processing_class, "chat_template", None)
    return tokenizer  # type: ignore[no-any-return]


def has_images(columns: Collection[str], processing_class: Any, args: "CoTSFTConfig", teacher: bool) -> bool:
    """Whether a data set is one with images, which TRL's collator reads at each step.

    Args:
        columns: Of the data set.
        processing_class: The processor or tokenizer.
        args: The configuration.
        teacher: Whether there is one.

    Raises:
        ValueError: if it has images and the settings, its format or the processing class do not allow them.
    """
    found = sorted(_IMAGES & set(columns))
    if not found:
        return False
    column = found[0]
    if is_record_dataset(list(columns)):
        raise ValueError(
            f"Records are trained as text, and these have a column {column!r}. Remove it (remove_columns), or pass "
            "messages with images, which are trained as trl.SFTTrainer does."
        )
    if not isinstance(processing_class, ProcessorMixin):
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
            f"{', '.join(changed)}. Leave that out, or train on text."
        )
    return True
