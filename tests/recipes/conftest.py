"""What the tests of the training recipes share."""

import runpy
import sys
from collections.abc import Callable
from types import SimpleNamespace

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
            code = 0
            try:
                runpy.run_path(path, run_name="__main__")
            except SystemExit as stop:
                code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run
