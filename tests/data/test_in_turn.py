"""A file that several runs share: one of them at a time, also when one was killed."""

import os
import signal
import subprocess
import sys

import pytest

from hf_reason.data import DataError
from hf_reason.data.output_folder import in_turn

HOLDER = """
import sys, time
from pathlib import Path
from hf_reason.data.output_folder import in_turn

with in_turn(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


def test_the_others_wait_and_a_kill_frees_it(tmp_path, capsys):
    path = tmp_path / "new" / "chains.jsonl"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(DataError, match="chains.jsonl: another run is working on it"), in_turn(path, wait=0.1):
            pass
        assert "Waiting for another run that works on chains.jsonl." in capsys.readouterr().err
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    for _ in range(2):
        with in_turn(path, wait=0.1):
            assert path.parent.is_dir()
    assert capsys.readouterr().err == ""
