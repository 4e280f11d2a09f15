"""Whether records have images, and the processors of models that read them."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from hf_reason.data import DataError
from hf_reason.data.images import first_with_images
from hf_reason.models.auto_class import NO_VISION, has_vision


def load_processor(name: str, *, trust_remote_code: bool = False, argument: str = "model_name_or_path") -> Any:
    """The processor of a model that reads images.

    Args:
        name: Folder or Hub name.
        trust_remote_code: Whether code that comes with it may run.
        argument: What gave the name, for the message.

    Raises:
        ValueError: if it cannot be loaded.
    """
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        why = f"{argument}={name!r}: its processor cannot be loaded: {' '.join(str(error).split())[:300]}"
        if importlib.util.find_spec("torchvision") is None:
            why += " Many processors of images need torchvision: pip install 'hf_reason[vision]'."
        raise ValueError(why) from error


def have_images(records: Any) -> bool:
    """Whether a record has an image."""
    return first_with_images(records) is not None


def refuse_images(splits: Mapping[str, Any], why: str, option: str = "dataset_name") -> None:
    """Refuse records with images for what works with text alone, before anything else is loaded.

    Args:
        splits: Name -> records (data set or list); `None` where there are none.
        why: Who reads text alone, as the second half of a sentence.
        option: Which argument gave the records.

    Raises:
        DataError: naming the first such record and what to do instead.
    """
    for split, records in splits.items():
        row = None if records is None else first_with_images(records)
        if row is not None:
            record = records[row]
            source = f" ({record['source']})" if record.get("source") else ""
            raise DataError(
                f"{option}: record {record.get('id', row)}{source} of {split} has images, and {why}. Describe the "
                "images in the text (hf-reason augment --captions 1 --replace), or leave them out (hf-reason prepare "
                "--images drop)."
            )


def check_reads_images(name: str, trust_remote_code: bool = False) -> None:
    """Refuse records with images for a model of text. One that cannot be loaded is left to its loader.

    Raises:
        ValueError: naming what to do instead.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return
    if not has_vision(config):
        raise ValueError(NO_VISION.format(config.model_type))
