"""SIGTERM, a launcher that is killed, and a second run in one folder, from the command line."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tiny

from hf_reason.trainers.resuming import last_checkpoint, step_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SETTINGS = {
    "model_type": "qwen2",
    "vocab_size": 400,
    "model_config": tiny.TINY_SIZES,
    "learning_rate": 1e-3,
    "max_steps": 40,
    "save_steps": 10,
}


@pytest.fixture
def command(tmp_path, dataset):
    """The command line of a run that writes a folder."""

    def of(name, *extra):
        words = tiny.recipe_arguments(tmp_path, tmp_path / name, *extra, **SETTINGS, dataset_name=dataset)
        return [sys.executable, "-m", "hf_reason.cli", "sft", *words]

    return of


def started(command, output):
    """The process, which has just saved its first checkpoint."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 200
    while not (output / "checkpoint-10" / "trainer_state.json").is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0][-3000:]
        time.sleep(0.01)
    return process


def assert_goes_on(command, whole, output):
    step = step_of(output / os.path.basename(last_checkpoint(output)))
    assert 10 < step < 40
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert tiny.logged_curve(output) == pytest.approx(tiny.logged_curve(whole), abs=1e-5)


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_saves_first_and_the_same_command_goes_on(tmp_path, command, processes):
    extra = [] if processes == 1 else ["--num_processes", "2"]
    assert subprocess.run(command("whole", *extra), capture_output=True).returncode == 0
    words = command("ended", *extra)
    process = started(words, tmp_path / "ended")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    name = os.path.basename(last_checkpoint(tmp_path / "ended"))
    assert f"Ended by SIGTERM. The same command resumes from {name}." in said and "Traceback" not in said
    assert_goes_on(words, tmp_path / "whole", tmp_path / "ended")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel tells the processes on Linux")
def test_a_launcher_that_is_killed_leaves_no_process_and_no_lock(tmp_path, command):
    words = command("killed", "--num_processes", "2")
    assert subprocess.run(command("whole", "--num_processes", "2"), capture_output=True).returncode == 0
    process = started(words, tmp_path / "killed")
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert workers and not alive
    process.communicate()
    assert_goes_on(words, tmp_path / "whole", tmp_path / "killed")


def test_the_second_run_in_a_folder_is_refused(tmp_path, command):
    process = started(command("out", "--max_steps", "4000"), tmp_path / "out")
    try:
        done = subprocess.run(command("out", "--max_steps", "4000"), capture_output=True, text=True)
        tiny.assert_one_line_error(done, "another run is writing to this output_dir")
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert process.returncode == 143
