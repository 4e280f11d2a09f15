"""A generation config that can be saved: transformers refuses an invalid one when a model is saved, after training."""

import logging
import re
from typing import Any

from .lm_head import causal_model

_log = logging.getLogger(__name__)

# A flag that has no effect, in the message of `GenerationConfig.validate(strict=True)`.
_FLAG = re.compile(r"^- `(\w+)`: ", re.MULTILINE)
_FIX = "Change model.generation_config (generation_config.json) first: the model could not be saved after training."


def make_generation_config_savable(model: Any) -> list[str]:
    """Unset the flags without an effect in a model's generation config, so that a trained model can be saved.

    transformers' own strict validation is the judge: whatever it would refuse when the model is saved is seen here. A
    flag that is ignored when the model generates (`temperature` without `do_sample`, `length_penalty` without beams, a
    negative `pad_token_id`, ...) is unset, which changes no output. Settings that stand in the model's config, where
    they block generation and saving, are moved to the generation config.

    Args:
        model: A causal language model, inside PEFT's wrapper or not.

    Returns:
        The names of the flags that were unset; a warning names them, too.

    Raises:
        ValueError: for values that contradict each other or do not exist.
    """
    model = causal_model(model)
    config: Any = getattr(model, "generation_config", None)
    if config is None:
        return []
    _move_settings(model.config, config)
    unset: list[str] = []
    while True:
        try:
            config.validate(strict=True)
            break
        except (ValueError, TypeError, AttributeError) as error:
            flags = [name for name in _FLAG.findall(str(error)) if getattr(config, name, None) is not None]
            if not flags:
                what = " ".join(str(error).split())
                raise ValueError(f"The model's generation config is invalid: {what} {_FIX}") from error
            unset += flags
            for name in flags:
                setattr(config, name, None)
    if unset:
        _log.warning(
            "The model's generation config has ignored flags, so that the model could not be saved; unset: %s. "
            "To sample by default, set do_sample=True in it beforehand.",
            ", ".join(unset),
        )
    return unset


def _move_settings(config: Any, generation: Any) -> None:
    for name, value in config._get_generation_parameters().items():
        if getattr(generation, name, None) is None:
            setattr(generation, name, value)
        delattr(config, name)
