"""Whether a model reads images, and which class of transformers loads it."""

import os
from collections.abc import Mapping
from typing import Any

NO_VISION = (
    "The records have images, and the model ({}) reads text alone. Describe the images in the text: hf-reason augment "
    "--captions 1 --replace; or leave them out (prepare --images drop)."
)


def has_vision(config: Any) -> bool:
    """Whether a model of this configuration reads images."""
    names = ("vision_config", "vision_encoder_config", "perceiver_config", "image_token_id", "image_token_index")
    return any(getattr(config, name, None) is not None for name in names)


def auto_class(name: str | os.PathLike[str], images: bool, options: Mapping[str, Any]) -> Any:
    """`AutoModelForCausalLM`, or the class for images where they are wanted or the other one does not know the model.

    Args:
        name: Folder or Hub name.
        images: Whether the model is to read images.
        options: Of `from_pretrained`.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )

    hub = {key: options[key] for key in ("revision", "trust_remote_code") if key in options}
    try:
        config = options.get("config") or AutoConfig.from_pretrained(name, **hub)
    except (OSError, ValueError):
        return AutoModelForCausalLM  # which says what is wrong
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    if sees and (images or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING):
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def describes_images(name: str, trust_remote_code: bool = False) -> bool:
    """Whether transformers has a class for a model that makes text of images; one that is not found is left to it."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError):
        return True
    known = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    return known or "AutoModelForImageTextToText" in (getattr(config, "auto_map", None) or {})
