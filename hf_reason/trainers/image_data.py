"""Records with images as training rows: the images stay files until the collator opens them."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.data.images import IMAGES, ImageError, has_images, references_in
from hf_reason.text import build_prompt
from hf_reason.text.collator import IMAGE_FILES, IMAGE_PROMPT

# The images of records in a training set, under a name that TRL does not know: its collator would read them.
RECORD_IMAGES = "record_images"
_NAMES = (RECORD_IMAGES, IMAGES, "image")


def has_images_in_it(dataset: Any, columns: Collection[str]) -> bool:
    """Whether a record of a data set has an image; of a stream, whether there is a column for them."""
    return any(has_images(dataset, name) for name in _NAMES if name in columns)


def with_hidden_images(dataset: Any, columns: Collection[str]) -> Any:
    """The data set with its images as `RECORD_IMAGES`."""
    return dataset.rename_column(IMAGES if IMAGES in columns else "image", RECORD_IMAGES)


def without_images(dataset: Any, columns: Collection[str]) -> Any:
    """The data set without its columns of images."""
    return dataset.remove_columns([name for name in _NAMES if name in columns])


def undecoded(dataset: Any) -> Any:
    """The data set whose images are read as files: a picture that was decoded has lost what its file was."""
    from datasets import Image, List

    features = dataset.features or {}
    if hasattr(dataset, "_ex_iterable"):
        return dataset.decode(False) if features else dataset
    for name in _NAMES:
        if "Image(" in str(features.get(name)):
            several = "list" in str(dataset.data.schema.field(name).type)
            # what is stored stays: a cast of a list would write all of it again
            dataset = copy.deepcopy(dataset)
            dataset._info.features[name] = List(Image(decode=False)) if several else Image(decode=False)
    return dataset


def image_features(tokens: Sequence[str]) -> Any:
    """Columns of encoded records with images. Said, because the first rows may have no image, or none by bytes.

    Args:
        tokens: Columns with a number a token.
    """
    from datasets import Features, Image, List, Value

    columns = {name: List(Value("int64")) for name in tokens}
    return Features({**columns, IMAGE_FILES: List(Image(decode=False)), IMAGE_PROMPT: Value("string")})


@dataclass(frozen=True)
class WithImages:
    """Encodes a record with images, and adds what the collator makes pixels of.

    Attributes:
        encode: Encodes a record: `encode(record, tokenizer, instructions=..., added=...)`.
    """

    encode: Callable[..., dict[str, Any]]

    def __call__(self, record: Mapping[str, Any], tokenizer: Any, **options: Any) -> dict[str, Any]:
        """The columns of a record; `tokenizer` is a processor.

        Raises:
            ValueError: naming the record, if one of its images cannot be read or has no place in its text.
        """
        name = next((name for name in _NAMES if name in record), IMAGES)
        try:
            images = references_in({IMAGES: record[name]}) if name in record else []
            shown = {**{key: value for key, value in record.items() if key not in _NAMES}, IMAGES: images}
            encoded = self.encode(shown, tokenizer, **options)
        except ImageError as error:
            raise ValueError(
                f"Record {record.get('id', '?')}: {error} Prepare the data again (hf-reason prepare --images bytes "
                "keeps the images in the data set), or leave the record out."
            ) from error
        thinking = bool(record.get("steps"))
        prompt = build_prompt(shown, tokenizer, instructions=options["instructions"], thinking=thinking)
        return {**encoded, IMAGE_FILES: images, IMAGE_PROMPT: prompt}
