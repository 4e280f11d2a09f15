"""The sections of `compress`: one for each stage, with the options of the command that does it."""

import importlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_reason.cli.compression_arguments import CompressionArguments
from hf_reason.cli.parsing.commands import COMMANDS, Command
from hf_reason.cli.parsing.spelling import as_typed
from hf_reason.cli.publishing import PUSH_OPTIONS

# In the order in which they follow each other.
STAGES = ("distill", "prune", "quantize")
# What a section may set for its stage alone. All the rest that prune and quantize share decides which problems the
# models answer and how, and has to be the same for figures that are compared.
_OF_A_STAGE = {
    "calibration",
    "calibration_records",
    "calibration_max_length",
    "max_drop",
    "min_close_rate",
    "batch_size",
    "use_cpu",
    "trust_remote_code",
}
# What may change without making a stage anew.
_FREE = {"batch_size", "use_cpu", "trust_remote_code", "cache_dir"}
LIMITS = ("max_drop", "min_close_rate")
# A distillation has a dtype of its own: `auto` is for models that are only read.
_NOT_OF_DISTILL = {"dtype"}
_LENGTH = {"max_steps", "num_train_epochs"}


@dataclass
class Stage:
    """A command on the path.

    Attributes:
        name: Of the section, and of the command.
        settings: Its arguments, without the model that it reads and the folder that it makes.
        words: Arguments from the command line, which override them.
        shaping: The values that shape the result, by name.
        limits: Those of its gate.
        given: What its section says, for the card.
    """

    name: str
    settings: dict[str, Any]
    words: list[str]
    shaping: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> Command:
        """The command that does it."""
        return COMMANDS[self.name]


def split_words(words: Sequence[str], sections: Sequence[str] = STAGES) -> tuple[list[str], dict[str, list[str]]]:
    """A command line without its `--SECTION.NAME VALUE`, and these by section, as `--NAME VALUE`."""
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    target = rest
    for word in words:
        if word.startswith("--"):
            section, dot, name = word[2:].partition(".")
            inside = bool(dot) and section in sections
            target = found.setdefault(section, []) if inside else rest
            word = f"--{name}" if inside else word
        target.append(word)
    return rest, found


def stages_of(
    args: CompressionArguments, sections: Mapping[str, Any], words: Mapping[str, list[str]], file: str | None
) -> list[Stage]:
    """The stages that are asked for, checked.

    Args:
        args: What is common to all stages.
        sections: Stage -> its section, `None` if there is none.
        words: Stage -> its arguments on the command line.
        file: The YAML of the sections, for messages.

    Raises:
        ValueError: (one line) for an argument that its command does not have or cannot use, or that is set for all
            stages together.
    """
    found = []
    for name in STAGES:
        section = sections.get(name)
        if section is None and name not in words:
            continue
        place = f"{file}, {name}" if file and section is not None else name
        stage = Stage(name, {**_common(args, name), **(section or {})}, words.get(name, []))
        try:
            _check(stage, args, section or {}, place)
        except ValueError as error:
            text = _with_dots(str(error), stage)
            raise ValueError(text if text.startswith(place) else f"{place}: {text}") from error
        found.append(stage)
    if not found:
        raise ValueError(f"there is nothing to do. Give one section at least: {', '.join(STAGES)}.")
    return found


def _with_dots(message: str, stage: Stage) -> str:
    """A message of a stage's command with its options as they are typed here."""
    known = stage.command.fields()
    typed = as_typed(message, known)
    return re.sub(r"--(\w+)", lambda match: f"--{stage.name}.{match[1]}" if match[1] in known else match[0], typed)


def _common(args: CompressionArguments, name: str) -> dict[str, Any]:
    """The arguments of all stages that a stage's command has, too."""
    known = COMMANDS[name].fields()
    # the path pushes its result itself
    left_out = {"model_name_or_path", "output_dir", *PUSH_OPTIONS, *(_NOT_OF_DISTILL if name == "distill" else ())}
    values = {item.name: getattr(args, item.name) for item in fields(CompressionArguments)}
    found = {key: value for key, value in values.items() if key in known and key not in left_out and value is not None}
    if name == "distill":
        # the path measures the student on the problems of the gate, so the command need not do it on others
        found |= {"teacher_model_name_or_path": args.model_name_or_path, "max_test_records": 0}
    return found


def _check(stage: Stage, args: CompressionArguments, section: Mapping[str, Any], place: str) -> None:
    from hf_reason.cli.parsing.launch_plan import split_arguments
    from hf_reason.cli.parsing.parser import parse_section
    from hf_reason.cli.resume import may_change

    environment = section.get("env")
    if environment is not None and not isinstance(environment, dict):
        raise ValueError(f"{place}: env must be a mapping of environment variables.")
    classes = importlib.import_module(stage.command.module).CLASSES
    words = split_arguments(stage.command, stage.words)[1] if stage.command.launches else stage.words
    typed = (word[2:].partition("=")[0].replace("-", "_") for word in stage.words if word.startswith("--"))
    given = {*section, *typed}
    for name in ("output_dir", *(() if stage.name == "distill" else ("model_name_or_path",))):
        if name in given:
            what = "teacher_model_name_or_path and output_dir name where the path begins and ends"
            raise ValueError(f"{place}: {name} is set by the path, remove it: {what}, beside the sections.")
    if "config" in given:
        raise ValueError(f"{place}: a section has no config of its own: write its settings into the section.")
    settings = {key: value for key, value in stage.settings.items() if key != "env"}
    here = {"output_dir": "made"} | ({} if stage.name == "distill" else {"model_name_or_path": "read"})
    parser, values = parse_section(stage.name, classes, place, {**here, **settings}, words)
    stage.given = {**{key: value for key, value in section.items() if key != "env"}}
    stage.given |= {name: values[name] for name in parser.names_in(words)}
    if stage.name == "distill":
        # its own checks of several arguments together are made at its start, which comes first
        kept = {item.name for cls in classes for item in fields(cls) if not may_change(item)} | _LENGTH
        stage.shaping = _plain({name: value for name, value in values.items() if name in kept})
        return
    (parsed,) = parser.build(values)
    for item in fields(CompressionArguments):
        if item.name in _OF_A_STAGE or item.name in here:
            continue
        if item.name in PUSH_OPTIONS:
            if item.name in given:
                raise ValueError(
                    f"{place}: {item.name} belongs beside the sections: only the path's result is pushed."
                )
            continue
        if getattr(parsed, item.name) != getattr(args, item.name):
            raise ValueError(
                f"{place}: {item.name} is common to all stages, so that their figures are compared on the same "
                "problems: give it beside the sections."
            )
    _check_extra(parsed)
    stage.limits = {name: getattr(parsed, name) for name in LIMITS}
    shapes = {
        name: value for name, value in asdict(parsed).items() if name not in {*_FREE, *LIMITS, *PUSH_OPTIONS, *here}
    }
    stage.shaping = _plain(shapes)


def _check_extra(parsed: Any) -> None:
    """A package that is missing is said before the hours of the stages before."""
    from hf_reason.compression import MissingExtraError

    method = getattr(parsed, "method", None)
    package, extra = ("gptqmodel", "gptq") if method == "gptq" else ("bitsandbytes", "bnb")
    if method is not None and importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"method {method} needs the extra {extra}: pip install 'hf_reason[{extra}]'.")


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from JSON."""
    return dict(json.loads(json.dumps(values, default=str)))


def write_section(stage: Stage, path: Path, **settings: Any) -> None:
    """The file with which a stage's command is called; JSON is YAML."""
    from hf_reason._files import write_json_atomically

    write_json_atomically(path, {**stage.settings, **settings})
