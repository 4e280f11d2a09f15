"""Several commands at once, each on its part of the cores, with one line of progress."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class RunFailedError(RuntimeError):
    """One of the commands failed; the message has the end of its log."""


def usable_threads() -> int:
    """Threads for all together: `OMP_NUM_THREADS`, or the cores. More threads than free cores wait for each other."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else os.cpu_count() or 1


def _last_loss(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("{'loss'")]
    return lines[-1].split(",")[0].strip("{") if lines else "starting"


def run_side_by_side(commands: Mapping[str, tuple[Sequence[str], Path]], threads: int | None = None) -> None:
    """Run Python scripts in parallel until all have ended.

    Args:
        commands: Name -> (arguments of Python, log file). What a script prints goes to its log.
        threads: Threads of each; default: its part of the cores, since more only wait for each other.

    Raises:
        RunFailedError: if one fails. The others are stopped, as they are by Ctrl-C.
    """
    if not commands:
        return
    threads = threads or max(1, usable_threads() // len(commands))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (command, log) in commands.items():
            with log.open("wb") as file:
                processes[name] = subprocess.Popen(
                    [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, env=environment
                )
        _watch(processes, {name: log for name, (_, log) in commands.items()}, started)
        # before the others are stopped, which gives them an exit code of their own
        failed = {name: process.poll() for name, process in processes.items() if process.poll()}
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
    for name, code in failed.items():
        log = commands[name][1]
        tail = log.read_text(errors="replace")[-2000:]
        raise RunFailedError(f"{name} failed (exit {code}). The end of {log}:\n{tail}")


def _watch(processes: Mapping[str, subprocess.Popen[bytes]], logs: Mapping[str, Path], started: float) -> None:
    """Print a line of progress now and then, until all have ended or one has failed."""
    # one line that is rewritten on a terminal, a line every half minute in a file
    end, pause = ("\033[K\r", 2.0) if sys.stdout.isatty() else ("\n", 30.0)
    due = started
    while any(process.poll() is None for process in processes.values()):
        if any(process.poll() for process in processes.values()):
            return
        now = time.monotonic()
        if now >= due:
            states = [
                f"{name}: {_last_loss(logs[name]) if process.poll() is None else 'done'}"
                for name, process in processes.items()
            ]
            print(f"   [{now - started:4.0f} s] {' | '.join(states)}", end=end, flush=True)
            due = now + pause
        time.sleep(0.2)


def run_in_batches(commands: Mapping[str, tuple[Sequence[str], Path]], parallel: int) -> None:
    """Run many scripts, `parallel` at a time, each on its part of the cores; see `run_side_by_side`."""
    names = list(commands)
    for start in range(0, len(names), parallel):
        batch = {name: commands[name] for name in names[start : start + parallel]}
        run_side_by_side(batch, threads=max(1, usable_threads() // parallel))
