"""Fields of the project's argument classes, and options that are JSON on the command line."""

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field
from typing import Any


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[Any] | None = None,
    card: bool = True,
    resumable: bool = False,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """A field of an argument class that says what it is for.

    Args:
        default: Its default; left out, the argument is required.
        help: One line for `--help`.
        choices: The values it may have.
        card: Whether the model card shows it when it is set and differs from its default.
        resumable: Whether it may change when a run is resumed, because it does not shape the training.
        default_factory: In place of `default`, for a list or a dictionary.
    """
    metadata: dict[str, Any] = {"help": help, "card": card, "resumable": resumable}
    if choices is not None:
        metadata["choices"] = list(choices)
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


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
