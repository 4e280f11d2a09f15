"""What the tests of the training recipes share."""

import importlib.util
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from datasets import Dataset, DatasetDict
from tiny import RECIPES


@pytest.fixture(scope="module")
def dataset(records, tmp_path_factory) -> str:
    """A saved data set of word problems with its three splits."""
    folder = tmp_path_factory.mktemp("data")
    parts = {"train": records[:44], "validation": records[44:52], "test": records[52:]}
    DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()}).save_to_disk(folder)
    return str(folder)


@pytest.fixture
def run_here(monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """A recipe in this process, which spares the seconds of its imports: `returncode`, `stdout`, `stderr`."""

    def run(recipe: str, *arguments: str) -> SimpleNamespace:
        path = str(RECIPES / recipe)
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [path, *arguments])
            patch.syspath_prepend(str(Path(path).parent))  # as for a script
            code = 0
            try:
                runpy.run_path(path, run_name="__main__")
            except SystemExit as stop:
                code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


@pytest.fixture
def bench_module(monkeypatch) -> Callable[[str], ModuleType]:
    """A script of `recipes/bench`, by its name, as a module."""

    def load(name: str) -> ModuleType:
        folder = RECIPES / "bench"
        monkeypatch.syspath_prepend(folder)  # as for a script
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
