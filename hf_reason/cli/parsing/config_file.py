"""The YAML of `--config`: read with errors of one line, and its values turned into the types of the arguments."""

import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_CALLED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class ConfigError(ValueError):
    """A configuration file, or one of its values, that cannot be used."""


def read_config(path: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: if there is no such file, it is not YAML, or not a mapping with names as keys.
    """
    import yaml

    if not Path(path).is_file():
        raise ConfigError(f"--config {path}: there is no such file.")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        what = " ".join(filter(None, (error.context, error.problem)))
        raise ConfigError(f"{path}{line}: this is not YAML: {what}. Write `name: value` on each line.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: this is not YAML in UTF-8: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} must be a mapping, with `name: value` on each line.")
    return content


def typed(name: str, hint: Any, value: Any, accepts_none: bool = True) -> Any:
    """A value of a YAML file as the type of its argument.

    YAML reads `1e-3` as text and `no` as false, and a list of one value is often written without its dash; all of
    these mean what they look like.

    Args:
        name: Of the argument, for the error.
        hint: Its type.
        value: From the file.
        accepts_none: Whether an empty value is allowed.

    Raises:
        ConfigError: if the value is of another type.
    """
    kinds = _alternatives(hint)
    if value is None:
        if accepts_none or type(None) in kinds:
            return None
        raise ConfigError(f"{name} is empty: give a value, or remove the line.")
    kinds = [kind for kind in kinds if kind is not type(None)]
    if Any in kinds or any(_is(value, kind) for kind in kinds):
        nested = next((kind for kind in kinds if get_origin(kind) in (list, tuple) and isinstance(value, list)), None)
        return value if nested is None else [typed(name, get_args(nested)[0], item) for item in value]
    for kind in kinds:
        found = _converted(name, kind, value)
        if found is not None:
            return found
    wanted = " or ".join(dict.fromkeys(_called(kind) for kind in kinds))
    raise ConfigError(f"{name} must be {wanted}, got {value!r}.")


def _alternatives(hint: Any) -> list[Any]:
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for part in get_args(hint) for kind in _alternatives(part)]
    return [hint]


def _is(value: Any, kind: Any) -> bool:
    origin = get_origin(kind) or kind
    if origin is Literal:
        return value in get_args(kind)
    if origin is tuple:
        origin = list
    if not isinstance(origin, type):
        return True
    if isinstance(value, bool):
        return origin is bool
    return isinstance(value, origin) or (origin is float and isinstance(value, int))


def _converted(name: str, kind: Any, value: Any) -> Any:
    """The value as this type; `None` if that cannot be."""
    origin = get_origin(kind) or kind
    if origin in (list, tuple):
        return None if isinstance(value, dict | list) else [typed(name, get_args(kind)[0], value)]
    if isinstance(value, dict | list):
        return None
    if origin is bool and isinstance(value, str):
        return True if value.lower() in _TRUE else False if value.lower() in _FALSE else None
    if origin in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            return None
        return number if origin is float else int(number) if number.is_integer() else None
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return None
    if origin is str or (isinstance(origin, type) and issubclass(origin, Enum)) or origin is Literal:
        # `save_strategy: no` is false in YAML
        return ("true" if value else "no") if isinstance(value, bool) else str(value)
    return None


def _called(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin in (list, tuple):
        return "a list"
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Enum):
        return "one of " + ", ".join(str(item.value) for item in origin)
    return _CALLED.get(origin, getattr(origin, "__name__", str(origin)))
