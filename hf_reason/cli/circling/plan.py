"""What a circle is going to do: its versions, folders and sections, checked before anything starts."""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_reason.cli.inputs.names import named
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.parsing.parser import parse_section
from hf_reason.cli.parsing.spelling import as_typed
from hf_reason.cli.serve import ServeArguments

from .arguments import CircleArguments

API_KEY = "HF_REASON_API_KEY"
_NAME = re.compile(r"[\w.-]{1,100}")


@dataclass(frozen=True)
class Plan:
    """A circle.

    Attributes:
        args: Its arguments.
        model: The name that clients ask for.
        version_a, version_b: Name and folder of the version in use and of the new one.
        serve: The server's arguments.
        serve_settings: The same as they are given to it.
        continual_settings, continual_words: Those of the round, from the file and from the command line.
        validates: Whether the round evaluates while it trains.
        api_key: For the server, from the environment; `None` without.
    """

    args: CircleArguments
    model: str
    version_a: tuple[str, str]
    version_b: tuple[str, str]
    serve: ServeArguments
    serve_settings: dict[str, Any]
    continual_settings: dict[str, Any]
    continual_words: list[str]
    validates: bool
    api_key: str | None

    @property
    def output(self) -> Path:
        """The circle's folder."""
        return Path(self.args.output_dir)

    @property
    def feedback_file(self) -> Path:
        return Path(self.serve.output_dir, "feedback.db")

    @property
    def experiments_file(self) -> Path:
        return Path(self.serve.output_dir, "experiments.db")

    @property
    def records_file(self) -> Path:
        """The feedback that the round learns, as records."""
        return self.output / "feedback.jsonl"

    @property
    def data_folder(self) -> Path:
        """The same, prepared."""
        return self.output / "data"

    def identity(self) -> dict[str, Any]:
        """What may not change while the circle is under way."""
        args = self.args
        names = ("fraction", "alpha", "crowd_dataset_name", "crowd_domain", "crowd_split", "crowd_test_split", "seed")
        return {
            "model": self.model,
            "version_a": list(self.version_a),
            "version_b": list(self.version_b),
            "serve.output_dir": self.serve.output_dir,
            **{name: getattr(args, name) for name in names},
        }


def plan_of(args: CircleArguments, words: Mapping[str, list[str]], file: str | None) -> Plan:
    """The plan of a circle.

    Args:
        args: Its arguments; the sections are dictionaries.
        words: Section -> arguments of it on the command line.
        file: The YAML, for messages.

    Raises:
        ValueError: (one line) for an argument that a section's command does not have or cannot use, or for names
            that cannot be served side by side.
    """
    output = Path(args.output_dir)
    version_a, version_b = named(args.model_name_or_path), (output.name, str(output / output.name))
    for name in (version_a[0], version_b[0]):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a version: use letters, digits and _ . - (name=folder).")
    if version_a[0] == version_b[0]:
        raise ValueError(f"both versions would be called {version_a[0]}: choose another output_dir, or name=folder.")
    here = {"use_cpu": True} if args.use_cpu else {}
    serve_values = {**here, **(args.serve or {})}  # type: ignore[dict-item]
    parser, values = _section("serve", file, serve_values, words, {"model_name_or_path": [args.model_name_or_path]})
    (serve,) = parser.build(values)
    if serve.new_api_key is not None:
        raise ValueError("serve: new_api_key is for `serve` alone. Make the key first.")
    if serve.engine == "openai":
        raise ValueError("serve: engine openai has its models elsewhere; a circle changes models of this machine.")
    if max(serve.replicas, serve.max_replicas or 1) > 1:
        raise ValueError("serve: replicas are for a server that you run yourself: give server_url.")
    typed = parser.names_in(words.get("serve", []))
    serve_settings = {**serve_values, **{name: values[name] for name in typed}}
    continual_values = {**here, **(args.continual or {})}  # type: ignore[dict-item]
    made = {"model_name_or_path": version_a[1], "dataset_name": "feedback", "output_dir": version_b[1]}
    _, learning = _section("continual", file, continual_values, words, made)
    _check_round(learning, f"{file}, continual" if file else "continual")
    return Plan(
        args,
        args.model or version_a[0],
        version_a,
        version_b,
        serve,
        serve_settings,
        continual_values,
        words.get("continual", []),
        learning["eval_strategy"] != "no",
        os.environ.get(API_KEY) or None,
    )


def _section(
    name: str, file: str | None, section: Mapping[str, Any], words: Mapping[str, list[str]], made: Mapping[str, Any]
) -> Any:
    """The parser and the values of a section, which must not name what the circle sets."""
    from hf_reason.cli.parsing.launch_plan import split_arguments

    command, place = COMMANDS[name], f"{file}, {name}" if file else name
    given = words.get(name, [])
    typed = {word[2:].partition("=")[0].replace("-", "_") for word in given if word.startswith("--")}
    for key in sorted({*section, *typed} & {*made, "config"}):
        raise ValueError(f"{place}: {key} is set by the circle, remove it.")
    classes: Sequence[type] = importlib.import_module(command.module).CLASSES
    rest = split_arguments(command, given)[1] if command.launches else given
    settings = {key: value for key, value in section.items() if key != "env"}
    try:
        return parse_section(name, classes, place, {**made, **settings}, rest)
    except ValueError as error:
        known = command.fields()
        text = re.sub(
            r"--(\w+)",
            lambda match: f"--{name}.{match[1]}" if match[1] in known else match[0],
            as_typed(str(error), known),
        )
        raise ValueError(text if text.startswith(place) else f"{place}: {text}") from error


def _check_round(values: Mapping[str, Any], place: str) -> None:
    """The round's own arguments; those of the training are checked at its start."""
    from hf_reason.cli.arguments import ContinualArguments

    try:
        ContinualArguments(**{item.name: values[item.name] for item in fields(ContinualArguments)})
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
