"""`prepare` on Ray Data: the files are those of the local engine, whatever happens to the workers."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from raw_files import folder_hash, raw_trace, raw_traces, write_jsonl

from hf_reason.data import DataError, prepare
from hf_reason.data.prepare.ray_engine import _cause


def test_an_engine_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="engine 'rai' is unknown. Did you mean 'ray'"):
        prepare("mine.jsonl", tmp_path / "out", engine="rai")


@pytest.fixture
def raw(tmp_path):
    return raw_traces(tmp_path / "traces.jsonl")


def test_without_ray_one_line_says_what_to_install(raw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"engine ray needs Ray: pip install 'hf_reason\[ray\]'"):
        prepare(raw, tmp_path / "out", engine="ray", progress=False)
    assert not (tmp_path / "out").exists()


def _workers(name):
    """Processes of Ray's that run the actor `name`."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if name.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers in /proc")
def test_the_same_files_even_if_a_worker_is_killed(raw, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "evaluation.jsonl", [raw_trace(3), raw_trace(500)])
    options = {"decontaminate": ["evaluation.jsonl"], "chunk_size": 8, "progress": False}
    local = prepare(raw, tmp_path / "local", **options)
    for reason in ("exact_duplicate", "near_duplicate", "contaminated"):
        assert local["counts"]["filters"][reason]
    killed, ended = [], threading.Event()

    def kill():
        while not killed and not ended.is_set():
            stored = (tmp_path / "ray" / ".work").glob("chunk-*.json")
            if any(stored) and (pids := _workers("ray::MapWorker(MapBatches(_Store))")):
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        prepare(raw, tmp_path / "ray", engine="ray", num_proc=2, **options)
    finally:
        ended.set()
        killer.join()
    assert killed
    assert folder_hash(tmp_path / "ray") == folder_hash(tmp_path / "local")


def test_an_error_of_the_data_is_found_in_rays():
    inner = DataError("mine.jsonl#3: its domain is unknown")
    try:
        try:
            raise inner
        except DataError as error:
            raise RuntimeError("the function failed") from error
    except RuntimeError as error:
        assert _cause(error) is inner
    plain = RuntimeError("out of memory")
    assert _cause(plain) is plain
