"""A process that has imported every command, and runs each in a fork of its own: a kill costs a second, not ten.

Speaks lines of JSON: what is asked on its standard input, the answer on its standard output. What outlives a command
that was killed becomes its child (a "subreaper" of Linux), whatever session or process group it is in.
"""

import contextlib
import ctypes
import importlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_MODULES = (
    "hf_reason.cli.finish",
    "hf_reason.cli.inputs.compression_data",
    "hf_reason.cli.inputs.inference",
    "hf_reason.cli.inputs.models",
    "hf_reason.cli.inputs.students",
    "hf_reason.cli.inputs.trace_teacher",
    "hf_reason.compression.measure_model",
    "hf_reason.compression.recovery",
    "hf_reason.evaluation",
    "hf_reason.evaluation.plots",
    "hf_reason.models.step_reasoner",
    "hf_reason.serving.app",
    "hf_reason.teachers.cache_builder",
    "hf_reason.trainers",
    "bitsandbytes",
    "datasets",
    "matplotlib.pyplot",
    "peft",
    "transformers.models.qwen2.modeling_qwen2",
    "uvicorn",
)


def _import_all() -> None:
    from hf_reason.cli.parsing.commands import COMMANDS, module_of

    for command in COMMANDS.values():
        module_of(command)
    for name in _MODULES:
        importlib.import_module(name)


def _fork(words: list[str], cwd: str, log: str, options: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(cwd)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
            os.dup2(source, target)
        if limit := options.get("limit"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        os.environ.update(options.get("env") or {})
        exec(options.get("before") or "", {})
        sys.argv = ["hf-reason", *words]
        from hf_reason.cli.main import main

        code = main(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _execute(words: list[str], cwd: str, log: str) -> int:
    command = [sys.executable, "-m", "hf_reason.cli", *words]
    with open(log, "ab") as out:
        options: Any = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out, "start_new_session": True}
        return subprocess.Popen(command, cwd=cwd, **options).pid


class _Forge:
    def __init__(self) -> None:
        self.started: dict[int, int | None] = {}

    def start(self, words: list[str], cwd: str, log: str, alone: bool, options: dict[str, Any]) -> int:
        """The process (and the group, and the session) that runs a command.

        Options of a fork: `limit`, no file grows beyond so many bytes; `env`, more variables; `before`, Python that
        runs before the command.
        """
        pid = _execute(words, cwd, log) if alone else _fork(words, cwd, log, options)
        self.started[pid] = None
        return pid

    def code(self, pid: int) -> int | None:
        """The exit code of a command, negative for a signal; `None` while it runs."""
        self._reap()
        return self.started[pid]

    def left(self) -> list[str]:
        """The processes of this one that are alive: what is left of commands that ended."""
        import psutil

        self._reap()
        found = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
        return found

    def cpu(self) -> float:
        """CPU seconds of this process and of all that have ended."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self.started:
                self.started[pid] = os.waitstatus_to_exitcode(status)


def _serve(asked: TextIO, answers: TextIO) -> None:
    forge = _Forge()
    for line in asked:
        name, arguments = json.loads(line)
        answers.write(json.dumps(getattr(forge, name)(*arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries say at their import is no answer
    sys.path = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]
    _import_all()
    answers.write("true\n")
    answers.flush()
    _serve(sys.stdin, answers)
    os._exit(0)  # without waiting for threads of libraries
