"""Options that are a dictionary in Python and YAML, and JSON on the command line."""

import json
from typing import Any


def parsed_option(name: str, value: dict[str, Any] | str | None) -> dict[str, Any] | None:
    """The dictionary.

    Raises:
        ValueError: if the text is not JSON, or not that of a dictionary.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{name} is not JSON: {error}.") from error
        if not isinstance(value, dict):
            raise ValueError(f'{name} must be a dictionary, {{"field": value, ...}}, got {value!r}.')
    return value
