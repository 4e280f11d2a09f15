"""What must not leave this machine: secrets and places, told by their names and values."""

import os
import re
from typing import Any

_SECRET = re.compile(r"token$|password|secret|api_?key|credential", re.IGNORECASE)
_SPECIAL_TOKENS = ("eos_token", "pad_token", "bos_token", "unk_token")


def is_secret(name: str) -> bool:
    """Whether a field or key of this name holds what nobody else may read."""
    return bool(_SECRET.search(name)) and name not in _SPECIAL_TOKENS


def without_secrets(value: Any) -> Any:
    """The value without entries of dictionaries that are secret."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items() if not is_secret(str(key))}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def is_place(value: Any) -> bool:
    """Whether a value names something of this machine or network: a path, or a URL."""
    return isinstance(value, str) and bool(
        value.startswith(("/", ".", "~")) or "://" in value or (os.sep in value and os.path.exists(value))
    )


def public(value: Any) -> Any:
    """The value without secrets, and with the last part of each path: what others may know of it."""
    if isinstance(value, dict):
        return {key: public(item) for key, item in without_secrets(value).items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if not is_place(value):
        return value
    return "a server" if "://" in value else os.path.basename(os.path.normpath(value))
