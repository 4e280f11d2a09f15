"""Whether a command line asks for several processes: the arguments of `accelerate launch` in it and in its YAML."""

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .commands import Command
from .config_file import ConfigError, read_config

# Set for the processes that are started here; a user's own `none` keeps a command in its process.
LAUNCHED, BY_US = "HF_REASON_LAUNCHER", "hf-reason"
_LAUNCHERS_LEAVE = ("LOCAL_RANK", "WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_CONFIGS = Path(__file__).parents[1] / "accelerate"
# the command is the module that is launched
_NOT_OURS = {"module", "no_python", "help", "training_script", "training_script_args"}


@dataclass(frozen=True)
class Launch:
    """Processes that are to be started.

    Attributes:
        command: What runs in each.
        words: Its arguments.
        options: Arguments of `accelerate launch`.
        on_cpu: Whether the command was told not to use an accelerator.
    """

    command: Command
    words: list[str]
    options: list[str]
    on_cpu: bool = False


def plan(command: Command, words: Sequence[str]) -> Launch | None:
    """The launch that a command line asks for; `None` if the command runs in this process.

    Raises:
        ValueError: if launch arguments are given to a process that a launcher has started, or a configuration does
            not exist.
    """
    options, own = split_arguments(command, words)
    settings = _yaml_of(own)
    if is_launched(os.environ):
        if options:
            raise ValueError(f"{options[0]} belongs to the launcher that started this process. Give it there.")
        return None
    given = [*_options_in(settings, command), *options]
    if not given and default_config() is None:
        return None
    on_cpu = _is_true(_value_after(own, "--use_cpu")) or _is_true(settings.get("use_cpu"))
    return Launch(command, own, _named_config(given), on_cpu)


def split_arguments(command: Command, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launcher's arguments in a command line, and the command's own, which win where both have the name."""
    fields = command.fields()
    own: list[str] = []
    options: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        name = word.removeprefix("--").split("=", 1)[0].replace("-", "_")
        known = not word.startswith("--") or name in fields or name.removeprefix("no_") in fields or name == "config"
        if known or name not in launch_options():
            own.append(word)
            position += 1
            continue
        count = 1 if "=" in word or not launch_options()[name] else 2
        options += words[position : position + count]
        position += count
    return options, own


@functools.cache
def launch_options() -> dict[str, bool]:
    """Names of the launcher's arguments -> whether they have a value."""
    from accelerate.commands.launch import launch_command_parser

    found = {"accelerate_config": True}
    for action in launch_command_parser()._actions:
        for option in action.option_strings:
            name = option.removeprefix("--").replace("-", "_")
            if option.startswith("--") and name not in _NOT_OURS:
                found[name] = action.nargs != 0
    return found


def default_config() -> str | None:
    """The file that `accelerate config` writes, if it is there."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    for name in ("default_config.yaml", "default_config.json"):
        path = Path(home).expanduser() / "accelerate" / name
        if path.is_file():
            return str(path)
    return None


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether this process was started by a launcher."""
    return any(environment.get(name) for name in (LAUNCHED, *_LAUNCHERS_LEAVE))


def _named_config(options: Sequence[str]) -> list[str]:
    """`--accelerate_config NAME` as the path of a shipped configuration."""
    found, words = [], iter(options)
    for word in words:
        name, _, value = word.partition("=")
        if name not in ("--accelerate_config", "--accelerate-config"):
            found.append(word)
            continue
        value = value or next(words, "")
        shipped = sorted(path.stem for path in _CONFIGS.glob("*.yaml"))
        if value in shipped:
            value = str(_CONFIGS / f"{value}.yaml")
        elif not Path(value).is_file():
            raise ValueError(f"--accelerate_config {value}: give one of {', '.join(shipped)}, or a file.")
        found += ["--config_file", value]
    return found


def _yaml_of(words: Sequence[str]) -> dict[str, Any]:
    """The settings of `--config`; a file that cannot be read is reported by the command."""
    path = _value_after(words, "--config")
    try:
        return read_config(path) if path else {}
    except ConfigError:
        return {}


def _options_in(settings: Mapping[str, Any], command: Command) -> list[str]:
    """The launcher's arguments in a YAML."""
    fields = command.fields()
    foreign = {name: value for name, value in settings.items() if name not in fields and name != "env"}
    options: list[str] = []
    for name, value in foreign.items():
        if name in launch_options():
            if not launch_options()[name]:
                options += [f"--{name}"] if value is True else []
            else:
                options += [f"--{name}", str(value)]
    return options


def _value_after(words: Sequence[str], name: str) -> str | None:
    for position, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            following = words[position + 1] if position + 1 < len(words) else "true"
            return "true" if following.startswith("--") else following
    return None


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "1", "t", "y")
