"""An output folder is refused before anything is loaded: a file, a place without permission, what the run reads."""

import os
import subprocess
import sys

import pytest

from hf_reason.data import DataError
from hf_reason.data.output_folder import check_output_apart, check_output_dir


def test_a_file_or_below_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="output_dir .*/file is a file. Choose a folder"):
        check_output_dir(tmp_path / "file")
    with pytest.raises(DataError, match="output_dir .*/file/a/b cannot be made: .*/file is a file"):
        check_output_dir(tmp_path / "file" / "a" / "b")
    check_output_dir(tmp_path)
    check_output_dir(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(DataError, match="output_dir .*/out cannot be made: .* is not writable"):
        check_output_dir(tmp_path / "out")


def test_what_the_run_reads(tmp_path):
    data, model = tmp_path / "data", tmp_path / "model"
    for folder in (data, model):
        folder.mkdir()
    for output, what in ((data, "is the data folder"), (data / "out", "is inside the data folder")):
        with pytest.raises(DataError, match=what):
            check_output_apart(output, [str(data)], [])
    with pytest.raises(DataError, match="is the folder of the model"):
        check_output_apart(f"{tmp_path}/data/../model", [], [str(model)])
    check_output_apart(tmp_path / "out", [str(data), "me/data"], [str(model), "me/model"])
    check_output_apart(model / "out", [str(data)], [str(model)])


def test_a_folder_is_held_by_one_process(tmp_path, monkeypatch):
    from hf_reason.data import output_folder

    code = (
        "import sys, time; from pathlib import Path; from hf_reason.data.output_folder import hold\n"
        "hold(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        monkeypatch.setattr(output_folder, "_PATIENCE", 0.3)
        with pytest.raises(DataError, match="out: another run is writing"):
            output_folder.hold(tmp_path / "out")
    finally:
        other.kill()
        other.wait()
    monkeypatch.setattr(output_folder, "_PATIENCE", 15.0)
    output_folder.hold(tmp_path / "out")  # what held it is gone
    output_folder.hold(tmp_path / "out")  # the same process
    assert not list((tmp_path / "out").iterdir())
    output_folder.release_all()
