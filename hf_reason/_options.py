"""Fields of the project's argument classes, and options that are JSON on the command line."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any, get_args


class _Metadata(dict[str, Any]):
    """Metadata of a field. `own` is read by `[...]` and `get` but not listed: `HfArgumentParser` and `TrlParser` pass
    what is listed on to argparse, which knows no `card`."""

    own: dict[str, Any]

    def __missing__(self, key: str) -> Any:
        return self.own[key]

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default


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
    metadata = _Metadata({"help": help} if choices is None else {"help": help, "choices": list(choices)})
    metadata.own = {"card": card, "resumable": resumable}
    if default_factory is not None:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def refuse_unused(config: Any, names: Iterable[str], why: str) -> None:
    """Refuse options that are set and would have no effect.

    Args:
        config: A dataclass.
        names: Fields of it that mean nothing now.
        why: What makes them so.

    Raises:
        ValueError: naming those that differ from their defaults.
    """
    made = {item.name: item.default_factory for item in fields(config) if item.default_factory is not MISSING}
    plain = {item.name: item.default for item in fields(config)}
    defaults = {name: made[name]() if name in made else plain[name] for name in names}
    given = [name for name in names if getattr(config, name) != defaults[name]]
    if given:
        raise ValueError(f"{', '.join(given)} would have no effect: {why}. Leave it out.")


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


_SWITCHES = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}


def numbers_from_text(config: Any) -> None:
    """Turn the numbers and switches of a dataclass that were given as text, as a YAML's `1e-3` is, into what they say.

    Raises:
        ValueError: if such a text is no number, or neither true nor false.
    """
    for item in fields(config):
        value = getattr(config, item.name, None)
        if not isinstance(value, str):
            continue
        kinds = {int, float, bool} & {item.type, *get_args(item.type)}
        if not kinds or str in get_args(item.type):
            continue
        if kinds == {bool}:
            if (said := _SWITCHES.get(value.strip().lower())) is None:
                raise ValueError(f"{item.name} must be true or false, got {value!r}.")
            setattr(config, item.name, said)
            continue
        try:
            number = float(value)
        except ValueError as error:
            raise ValueError(f"{item.name} must be a number, got {value!r}.") from error
        whole = int in kinds and float not in kinds
        if whole and not number.is_integer():
            raise ValueError(f"{item.name} must be a whole number, got {value!r}.")
        setattr(config, item.name, int(number) if whole else number)
