"""`--help` of the commands: grouped, the project's arguments first, without an import of the libraries."""

import shutil
import textwrap
from collections.abc import Iterable

from .commands import COMMANDS, Command
from .fields import Computed, FieldView
from .library_arguments import LORA, MODEL, TRAINING

_LAUNCH = (
    ("--num_processes N", "Processes that train together: GPUs, or the CPU without one."),
    ("--accelerate_config NAME", "ddp, zero2_offload, zero3, fsdp2, or a YAML of accelerate."),
    ("...", "Any other argument of `accelerate launch`."),
)
_SHORT = MODEL | LORA | TRAINING
_COLUMN = 34
_MANY = 15
_TYPES = {"int": "N", "float": "X", "bool": "", "str": "TEXT"}


def overview() -> str:
    """`hf-reason --help`: a line for each command."""
    lines = ["usage: hf-reason COMMAND [--config FILE.yaml] [arguments]", ""]
    width = max(map(len, COMMANDS)) + 2
    lines += [f"  {command.name:<{width}}{command.summary}" for command in COMMANDS.values()]
    lines += ["", "`hf-reason COMMAND --help` lists its arguments. `hf-reason --version` prints the version.", ""]
    return "\n".join(lines)


def command_help(command: Command, everything: bool = False) -> str:
    """`--help` of a command; with `everything`, `--help_all`."""
    width = min(max(shutil.get_terminal_size((120, 24)).columns, 110), 140) - 1
    sections = command.sections()
    shown = {view.name for views in sections.values() for view in views}
    rest = [view for name, view in command.fields().items() if name not in shown]
    lines = [f"usage: hf-reason {command.name} [--config FILE.yaml] [arguments]", ""]
    lines += [f"{command.summary[0].upper()}{command.summary[1:]}.", f"Example: {command.example}", ""]
    lines += [
        "A YAML file given as --config sets any of these; the command line overrides it. A switch alone means true;",
        "`--name false` turns it off.",
        "",
    ]
    for title, views in sections.items():
        rows = [_row(view, whole=command.name == "prepare") for view in views]
        lines += [f"{title}:", *_listed(rows, width), ""]
    if command.launches:
        lines += ["launching:", *_listed(_LAUNCH, width), ""]
    lines += ["other:", *_listed(_other(len(rest), everything), width)]
    if everything and rest:
        lines += ["", "TRL and transformers:", *_listed(map(_row, rest), width)]
    return "\n".join(lines) + "\n"


def _other(hidden: int, everything: bool) -> list[tuple[str, str]]:
    rows = [("--config FILE.yaml", "Arguments from a file."), ("--help", "This text.")]
    if hidden and not everything:
        rows.append(("--help_all", f"The {hidden} further arguments of TRL and transformers."))
    return rows


def _row(view: FieldView, whole: bool = True) -> tuple[str, str]:
    """An argument and what is said about it; without `whole`, a long list of choices is cut."""
    text = " ".join(view.help.replace("%%", "%").split())
    if not view.owner.startswith("hf_reason"):
        text = _first_sentence(text)
    if not view.owner.startswith(("hf_reason.cli", "hf_reason.data")):
        text = _SHORT.get(view.name, text)
    choices = None if view.choices is None else ", ".join(map(str, view.choices))
    if choices and not all(str(choice) in text for choice in view.choices or ()):
        if not whole and len(view.choices or ()) > _MANY:
            choices = ", ".join(map(str, (view.choices or ())[:4])) + ", ... (all: `hf-reason prepare --help`)"
        text = f"{text.rstrip('.')}: {choices}."
    return f"--{view.name} {_metavar(view)}".strip(), f"{text} {_default(view)}".strip()


def _metavar(view: FieldView) -> str:
    kinds = [part.strip() for part in view.annotation.replace("Optional", "").split(" | ")]
    if any(kind.startswith("dict") for kind in kinds):
        return "JSON"
    if kinds[0].startswith(("list", "tuple")):
        return "A [B ...]"
    return _TYPES.get(kinds[0], "TEXT")


def _default(view: FieldView) -> str:
    value = view.default
    if view.is_required:
        return "" if view.help.endswith("(required)") else "(required)"
    if value is None or value in ([], (), "") or isinstance(value, Computed):
        return ""
    if isinstance(value, bool):
        return f"[{str(value).lower()}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(str, value))}]"
    return f"[{value}]"


def _first_sentence(text: str, longest: int = 100) -> str:
    first = text.split(". ")[0].rstrip(".")
    return (first if len(first) <= longest else first[: first.rfind(" ", 0, longest)] + " ...") + "."


def _listed(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    lines, indent = [], " " * _COLUMN
    for argument, text in rows:
        head = f"  {argument}  ".ljust(_COLUMN)
        lines += textwrap.wrap(head + text, width, subsequent_indent=indent, drop_whitespace=True)
    return lines
