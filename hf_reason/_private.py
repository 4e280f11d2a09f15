"""What must not leave this machine: secrets and places, told by their names and values."""

import os
import re
from typing import Any

_SECRET = re.compile(
    r"token$|passw|passphrase|secret|(?:api|access|private|ssh)[-_]?key|credential|authori[sz]ation|^auth$|cookie|bearer",
    re.IGNORECASE,
)
# Keys as the services write them, and headers of HTTP.
_SECRET_VALUE = re.compile(
    r"(?:Bearer|Basic) \S{6,}|(?:hf_|api_org_|sk-|gh[opsur]_|github_pat_|glpat-|xox[abp]-|AKIA)[\w-]{8,}"
)
_SPECIAL_TOKENS = ("eos_token", "pad_token", "bos_token", "unk_token")


def is_secret(name: str) -> bool:
    """Whether a field or key of this name holds what nobody else may read."""
    return bool(_SECRET.search(name)) and name not in _SPECIAL_TOKENS


def _is_secret_value(value: Any) -> bool:
    """Whether a text is a key or the header with one, whatever it is called."""
    return isinstance(value, str) and bool(_SECRET_VALUE.fullmatch(value.strip()))


def without_secrets(value: Any) -> Any:
    """The value without entries of dictionaries and lists that are secret, by name or by themselves."""
    if isinstance(value, dict):
        return {
            key: without_secrets(item)
            for key, item in value.items()
            if not is_secret(str(key)) and not _is_secret_value(item)
        }
    if isinstance(value, list):
        return [without_secrets(item) for item in value if not _is_secret_value(item)]
    return None if _is_secret_value(value) else value


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
