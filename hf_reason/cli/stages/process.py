"""A stage in a process of its own, which ends when the process that started it does, however that ended.

A path that is killed must leave nobody behind who still writes into its folders when the same command resumes it.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from hf_reason.cli import errors

MEASURE = "measure"
_PATIENCE = 20.0


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[TextIO]:
    """A folder for one command alone; its stages hold it, too, so that it is free when the last has ended.

    Raises:
        ValueError: if another command works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        deadline = time.monotonic() + _PATIENCE  # the stage of a command that was killed needs a moment to end
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ValueError(
                        f"another command works in {folder}: wait for its end, or choose another output_dir."
                    ) from error
                time.sleep(0.2)
        yield file


def run_stage(words: Sequence[str], lock: TextIO, place: str, hint: str) -> int:
    """Run a command of `hf-reason`, or `measure`.

    Args:
        words: The command and its arguments.
        lock: Of the folder.
        place: Which stage it is; stands before its error.
        hint: What to do then; stands behind it.

    Returns:
        Its exit code; 128 and the signal's number if one ended it.
    """
    environment = {**os.environ, errors.PLACE: place, errors.HINT: hint}
    command = [sys.executable, "-m", "hf_reason.cli.stages.process", *words]
    # its standard input stays open as long as this process lives, and says nothing
    process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(lock.fileno(),), env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        _stop(process)
        raise
    return 128 - code if code < 0 else code


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a process that was interrupted from the terminal, too; one that was not is told."""
    for stop in (lambda: process.send_signal(signal.SIGINT), process.kill, None):
        try:
            process.wait(timeout=5)
            return
        except subprocess.TimeoutExpired:
            if stop is not None:
                stop()


def end_with_parent() -> None:
    """Wait until the pipe of the process that started this one closes, and end this one with its children."""
    with contextlib.suppress(OSError):
        while os.read(0, 1024):
            pass
    import psutil

    this = psutil.Process()
    processes = [*this.children(recursive=True), this]
    for kill in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                kill(process)
        time.sleep(5)


def main(words: Sequence[str]) -> int:
    """What the started process does."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    if words[0] != MEASURE:
        from hf_reason.cli.main import main as command

        return command(words)
    from .measuring import measure_stage

    errors.silence_import_noise()
    return errors.run(lambda: measure_stage(*words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
