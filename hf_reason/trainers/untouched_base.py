"""Which settings of an adapter change the weights of its base."""

from typing import Any

# These put a part of the base's weights into the adapter when it is made.
_SPLIT_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def moves_base(config: Any) -> str | None:
    """The setting of a `PeftConfig` by which the base, without the adapter, is no longer what it was.

    Returns:
        Such as `"bias='all'"`; `None` if there is none.
    """
    if config.modules_to_save:
        return f"modules_to_save={config.modules_to_save}"
    if getattr(config, "bias", "none") != "none":
        return f"bias={config.bias!r}"
    start = getattr(config, "init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(_SPLIT_THE_BASE):
        return f"init_lora_weights={start!r}"
    return None
