"""The arguments of a command: from its command line and its `--config`, with one line for whatever is wrong."""

import argparse
import copy
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

from trl.scripts.utils import TrlParser

from .checks import check_values
from .commands import COMMANDS
from .config_file import ConfigError, read_config, typed
from .help import command_help
from .launch_plan import launch_options
from .names import explain_all_unknown, explain_free_words, renamed_of

_LORA = ("lora_", "use_rslora", "use_dora")
_PASSED_ON = ("help", "choices", "aliases")


class UsageError(ValueError):
    """A command line that cannot be used."""


class CommandParser(TrlParser):
    """TRL's parser without abbreviations, whose errors are exceptions of one line.

    Args:
        command: Name of the command, for its usage.
        classes: Its argument classes.
    """

    def __init__(self, command: str, classes: Sequence[type]) -> None:
        self.hints: dict[str, Any] = {}
        self.optional: dict[str, bool] = {}
        # a field that is one of the other classes has its arguments there
        self.nested: dict[str, type] = {}
        for cls in classes:
            hints = get_type_hints(cls)
            for item in dataclasses.fields(cls):
                if hints[item.name] in classes:
                    self.nested[item.name] = hints[item.name]
                elif item.init:
                    self.hints[item.name] = hints[item.name]
                    self.optional[item.name] = item.default is None
        super().__init__(list(classes), prog=f"hf-reason {command}", allow_abbrev=False, add_help=False)  # type: ignore[arg-type]
        # text or a list of texts (report_to): TRL's parser reads one word only
        self.several = {name for name, hint in self.hints.items() if {str, list[str]} <= set(get_args(hint))}
        for action in self._actions:
            if action.dest in self.several:
                action.nargs = "+"

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        # argparse refuses the project's own metadata (card, resumable), and knows lists only
        nested = getattr(parser, "nested", {})
        if field.name in nested:
            return
        plain = copy.copy(field)
        plain.metadata = {name: field.metadata[name] for name in _PASSED_ON if name in field.metadata}  # type: ignore[assignment]
        if get_origin(field.type) is tuple:
            plain.type = list[get_args(field.type)[0]]  # type: ignore[misc]
            if field.default is not dataclasses.MISSING:
                plain.default, plain.default_factory = dataclasses.MISSING, lambda: field.default
        TrlParser._parse_dataclass_field(parser, plain)
        if plain.type == list[bool]:  # any word is true to `bool`
            parser._actions[-1].type = importlib.import_module("transformers.hf_argparser").string_to_bool

    def error(self, message: str) -> Any:
        raise UsageError(_plain(message))

    @property
    def names(self) -> list[str]:
        return sorted({action.dest for action in self._actions} | {"config"})

    def knows(self, word: str) -> bool:
        return word.split("=", 1)[0] in self._option_string_actions

    def names_in(self, argv: Iterable[str]) -> set[str]:
        """The arguments that a command line sets."""
        words = (word.split("=", 1)[0] for word in argv if word.startswith("--"))
        return {self._option_string_actions[word].dest for word in words if word in self._option_string_actions}

    def build(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """An instance of each class, those that are fields of others first."""
        made: dict[type, Any] = {}
        classes: list[Any] = list(self.dataclass_types)
        single = {name: values[name][0] for name in self.several if values[name] and len(values[name]) == 1}
        values = {**values, **{name: value for name, value in single.items() if isinstance(values[name], list)}}
        for cls in sorted(classes, key=lambda cls: cls not in self.nested.values()):
            names = [item.name for item in dataclasses.fields(cls) if item.init]
            made[cls] = cls(
                **{name: made[self.nested[name]] if name in self.nested else values[name] for name in names}
            )
        return tuple(made[cls] for cls in classes)

    def apply_config(
        self, path: str, renamed: Mapping[str, str], launches: bool, settings: Mapping[str, Any] | None = None
    ) -> set[str]:
        """Take the values of a YAML file as defaults, and its `env` into the environment.

        Args:
            path: The file.
            renamed: Old name -> new name.
            launches: Whether keys of the launcher may be there, too.
            settings: Its values, if they were read before (a section of a file, which `path` names).

        Returns:
            The arguments that the file sets.
        """
        settings = read_config(path) if settings is None else dict(settings)
        environment = settings.pop("env", None) or {}
        if not isinstance(environment, dict):
            raise ConfigError(f"{path}: env must be a mapping of environment variables.")
        os.environ.update({str(name): str(value) for name, value in environment.items()})
        known = {*self.hints, *(launch_options() if launches else ())}
        if unknown := [name for name in settings if name not in known]:
            raise ConfigError(f"{path}: {explain_all_unknown(unknown, _known(self, launches), renamed, dashes='')}")
        settings = {name: value for name, value in settings.items() if name in self.hints}
        try:
            values = {
                name: typed(name, self.hints[name], value, self.optional.get(name, False))
                for name, value in settings.items()
            }
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        for action in self._actions:
            if action.dest in values and action.choices is not None:
                self._check_choice(path, action, values[action.dest])
        self.set_defaults_with_config(**values)
        return set(values)

    def _check_choice(self, path: str, action: argparse.Action, value: Any) -> None:
        for item in value if isinstance(value, list) else [value]:
            if item is not None and item not in (action.choices or ()):
                choices = ", ".join(map(str, action.choices or ()))
                raise ConfigError(f"{path}: {action.dest} must be one of {choices}, got {item!r}.")


# argparse's messages -> ours; each argument has a second spelling there, which is dropped before.
_MESSAGES = (
    (r"argument (--\w+): invalid int value: ('.*')", r"\1 must be a whole number, got \2."),
    (r"argument (--\w+): invalid float value: ('.*')", r"\1 must be a number, got \2."),
    (r"argument (--\w+): Truthy value expected: got (.*) but .*", r"\1 must be true or false, got '\2'."),
    (r"argument (--\w+): invalid choice: ('.*') \(choose from (.*)\)", r"\1 must be one of \3, got \2."),
    (r"argument (--\w+): expected (one|at least one) argument", r"\1 needs a value."),
    (r"argument (--\w+): ", r"\1: "),
    (r"the following arguments are required: (.*)", r"missing: \1"),
)


def _plain(message: str) -> str:
    message = re.sub(r"(--\w+)/--[\w-]+", r"\1", message)
    for pattern, replacement in _MESSAGES:
        found, count = re.subn(pattern, replacement, message)
        if count:
            return found
    return message


def parse(command: str, classes: Sequence[type], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Parse the arguments of a command.

    Args:
        command: `sft`, `prepare`, ...
        classes: Its argument classes; no field may be in two of them.
        argv: The arguments after the command's name; default: those of this process.

    Returns:
        An instance of each class.

    Raises:
        SystemExit: after `--help` and `--help_all`.
        ValueError: (one line) if a file or argument cannot be used.
    """
    return parse_known(command, classes, argv, strict=True)[0]


def parse_known(
    command: str, classes: Sequence[type], argv: Sequence[str] | None = None, strict: bool = False
) -> tuple[tuple[Any, ...], list[str]]:
    """`parse`, and the words that belong to no argument of the command; with `strict` they are an error."""
    parser, values, extra = _read(command, classes, list(sys.argv[1:] if argv is None else argv), strict)
    return parser.build(values), extra


def parse_section(
    command: str, classes: Sequence[type], name: str, settings: Mapping[str, Any], argv: Sequence[str]
) -> tuple[CommandParser, dict[str, Any]]:
    """The values of a command whose settings are a section of another command's file.

    Args:
        command: Whose arguments they are.
        classes: Its argument classes.
        name: Of the section, for messages.
        settings: What the section says.
        argv: Arguments that override it.

    Returns:
        The parser, whose `build` makes the instances, and all values by name.

    Raises:
        ValueError: (one line) if an argument cannot be used.
    """
    return _read(command, classes, list(argv), True, (name, settings))[:2]


def _read(
    command: str,
    classes: Sequence[type],
    words: list[str],
    strict: bool,
    section: tuple[str, Mapping[str, Any]] | None = None,
) -> tuple[CommandParser, dict[str, Any], list[str]]:
    if {"-h", "--help", "--help_all"} & set(words):
        print(command_help(COMMANDS[command], "--help_all" in words), end="")
        raise SystemExit(0)
    parser = CommandParser(command, classes)
    path, words = config_of(words)
    settings = None
    if section is not None:
        path, settings = section
    renamed = renamed_of(classes)
    launches = command in COMMANDS and COMMANDS[command].launches
    given = set() if path is None else parser.apply_config(path, renamed, launches, settings)
    # before argparse, which would rather say that the renamed argument is missing
    extra = [word for word in words if word.startswith("--") and not parser.knows(word)]
    if not extra or not strict:
        namespace, extra = parser.parse_known_args(words)
    if extra and strict:
        raise UsageError(_about(extra, parser, launches, renamed))
    given |= parser.names_in(words)
    values = vars(namespace)
    _imply_peft(command, given, values)
    check_values(values, given)
    _pin_memory_of_accelerators(values, given)
    if "per_device_train_batch_size" in values and not values.get("output_dir"):
        raise UsageError("there is no output_dir. Give --output_dir: the folder of the trained model and its report.")
    return parser, values, extra


def config_of(words: list[str]) -> tuple[str | None, list[str]]:
    """The path after `--config`, if there is one, and the other words."""
    for position, word in enumerate(words):
        if word.startswith("--config="):
            return word.removeprefix("--config="), words[:position] + words[position + 1 :]
        if word == "--config":
            if position + 1 == len(words):
                raise UsageError("--config needs a value: the path of a YAML file.")
            return words[position + 1], words[:position] + words[position + 2 :]
    return None, words


def _known(parser: CommandParser, launches: bool) -> list[str]:
    return [*parser.names, *(("num_processes", "accelerate_config", "config_file") if launches else ())]


def _about(unknown: Sequence[str], parser: CommandParser, launches: bool, renamed: Mapping[str, str]) -> str:
    names = [word.removeprefix("--").split("=", 1)[0] for word in unknown if word.startswith("--")]
    if not names:
        return explain_free_words(unknown, parser.names)
    return explain_all_unknown(names, _known(parser, launches), renamed)


def _imply_peft(command: str, given: set[str], values: dict[str, Any]) -> None:
    """Any option of LoRA switches LoRA on; the commands that decide it themselves say when they are contradicted."""
    if "use_peft" not in values:
        return
    if command in ("lora", "continual"):
        if "use_peft" in given and command == "lora" and not values["use_peft"]:
            _say("use_peft is ignored: `lora` always trains a LoRA.")
        if "use_peft" in given and command == "continual":
            _say("use_peft is ignored: --adapter (fresh, continue or none) decides.")
        return
    options = sorted(name for name in given if name.startswith(_LORA) and values.get(name) not in (None, False))
    if not options or values["use_peft"]:
        return
    if "use_peft" in given:
        _say(f"use_peft is false, so all weights are trained without {', '.join(options)}.")
        return
    values["use_peft"] = True
    _say(f"{', '.join(options)} {'is' if len(options) == 1 else 'are'} set, so a LoRA is trained (use_peft true).")


def _pin_memory_of_accelerators(values: dict[str, Any], given: set[str]) -> None:
    """torch warns about pinned memory at every epoch of a training without an accelerator, where it has no effect."""
    if "dataloader_pin_memory" in values and "dataloader_pin_memory" not in given:
        import torch

        values["dataloader_pin_memory"] = torch.accelerator.is_available()


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"Note: {line}", file=sys.stderr)
