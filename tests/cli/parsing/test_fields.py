"""What `--help` reads from the sources is what the classes are, and a command's table names the classes it parses."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.parsing.fields import MISSING, Computed, fields_of

CLASSES = sorted({cls for command in COMMANDS.values() for cls in command.classes})


def imported(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", CLASSES)
def test_fields_are_those_of_the_imported_class(path: str) -> None:
    real = {item.name: item for item in dataclasses.fields(imported(path)) if item.init}
    read = fields_of(path)
    assert list(read) == list(real)
    for name, view in read.items():
        item = real[name]
        default = item.default_factory() if callable(item.default_factory) else item.default
        if default is dataclasses.MISSING:
            assert view.default is MISSING or view.annotation == "FilterConfig", name
        elif not isinstance(view.default, Computed):
            assert view.default == default, name
        assert view.help == item.metadata.get("help", ""), name
        if view.choices is not None:
            assert list(view.choices) == list(item.metadata["choices"]), name
        else:  # only what a library computes is not read
            assert not item.metadata.get("choices") or view.owner.startswith(("trl", "transformers")), name


def test_only_defaults_of_the_libraries_are_computed() -> None:
    computed = {
        view.name for path in CLASSES for view in fields_of(path).values() if isinstance(view.default, Computed)
    }
    assert computed <= {"optim", "filters"}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_the_table_has_the_classes_that_the_command_parses(command) -> None:
    parsed = importlib.import_module(command.module).CLASSES
    assert {imported(path) for path in command.classes} == set(parsed)
    names = [name for path in command.classes for name in fields_of(path)]
    assert len(names) == len(set(names)), "an argument must have one meaning"


def test_no_library_is_imported() -> None:
    script = (
        "import sys; from hf_reason.cli.parsing.commands import COMMANDS; [c.sections() for c in COMMANDS.values()]; "
        "print(sorted({'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
