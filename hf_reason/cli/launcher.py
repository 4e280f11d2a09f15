"""Several processes for a command: through accelerate's launcher on accelerators, through torchrun on the CPU.

    hf-reason sft --config X.yaml --num_processes 4
    hf-reason sft --config X.yaml --accelerate_config zero3 --num_processes 8

A command runs in this process unless an argument of `accelerate launch` is given (on the command line or in the YAML
of `--config`) or `accelerate config` has written its default file. On the CPU accelerate's launcher would start one
process whatever it is told, so torchrun starts them there. Each process is told how many train together, and a launch
that became something else is an error.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hf_reason._signals import Terminated
from hf_reason.cli.parsing.commands import module_of
from hf_reason.cli.parsing.launch_plan import BY_US, LAUNCHED, Launch, default_config

_ON_CPU = {"num_processes", "config_file", "cpu", "num_machines", "main_process_port", "mixed_precision", "debug"}


def launch(wanted: Launch) -> int:
    """Start the processes and wait for them.

    Returns:
        The exit code of the command: that of the process that failed first.

    Raises:
        ValueError: if the machine cannot run them.
    """
    import torch

    options = _parsed(wanted)
    if options.num_processes is not None and options.num_processes < 1:
        raise ValueError(f"--num_processes must be at least 1, got {options.num_processes}.")
    config = _config_of(options)
    count = options.num_processes if options.num_processes is not None else getattr(config, "num_processes", None)
    count = None if count in (None, -1) else int(count)
    has_accelerator = torch.accelerator.is_available() and not (options.cpu or wanted.on_cpu)
    machines = options.num_machines or getattr(config, "num_machines", None) or 1
    if has_accelerator:
        if count is not None and machines == 1 and count > torch.accelerator.device_count():
            raise ValueError(
                f"--num_processes {count}: this machine has {torch.accelerator.device_count()} accelerator(s). Give "
                "as many processes at most."
            )
        return _waited(lambda: _accelerate(wanted, _with_world_size(wanted, count)))
    # a default file that was written for GPUs says nothing about a run on the CPU
    meant = bool(wanted.options) or _kind(config) == "MULTI_CPU"
    if meant:
        _check_cpu(wanted, options, config, machines)
    if not meant or count is None or count == 1:
        with _marked():
            return _here(wanted)
    return _waited(lambda: _torchrun(wanted, count))


def torchrun_arguments(wanted: Launch, count: int) -> list[str]:
    """The command line of `torchrun` for processes on the CPU."""
    words = _with_world_size(wanted, count)
    if "use_cpu" in wanted.command.fields() and not wanted.on_cpu:
        words += ["--use_cpu", "true"]
    return ["--standalone", "--nproc_per_node", str(count), "--module", "hf_reason.cli", wanted.command.name, *words]


def accelerate_arguments(wanted: Launch, words: Sequence[str]) -> list[str]:
    """The command line of `accelerate launch`."""
    given = {option.removeprefix("--").split("=", 1)[0].replace("-", "_") for option in wanted.options}
    options = list(wanted.options)
    if "config_file" not in given and default_config() is None:
        # said here, since the launcher warns about each value that it had to choose
        neutral = {"num_machines": "1", "mixed_precision": "no", "dynamo_backend": "no"}
        options += [word for name, value in neutral.items() if name not in given for word in (f"--{name}", value)]
    return [*options, "--module", "hf_reason.cli", wanted.command.name, *words]


def _accelerate(wanted: Launch, words: Sequence[str]) -> None:
    from accelerate.commands.launch import launch_command

    launch_command(_parse_launch(accelerate_arguments(wanted, words)))


def _torchrun(wanted: Launch, count: int) -> None:
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    run(parse_args(torchrun_arguments(wanted, count)))


def _here(wanted: Launch) -> int:
    return module_of(wanted.command).main(wanted.words) or 0


def _waited(start: Any) -> int:
    """The exit code of the processes; their own words have said why one failed."""
    import signal
    import subprocess

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from . import errors

    try:
        with _marked():
            start()
    except subprocess.CalledProcessError as error:
        return _positive(error.returncode)
    except ChildFailedError as error:
        code = _positive(error.get_first_failure()[1].exitcode)
        if code not in (errors.UNUSABLE, errors.REFUSED, errors.INTERRUPTED):
            print(error, file=sys.stderr)
        return code
    except SignalException as error:
        return errors.INTERRUPTED if error.sigval == signal.SIGINT else 128 + error.sigval
    except KeyboardInterrupt as error:
        import psutil

        children = psutil.Process().children(recursive=True)
        if isinstance(error, Terminated):  # Ctrl-C reaches them by itself
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.terminate()
        psutil.wait_procs(children, timeout=60)
        return errors.TERMINATED if isinstance(error, Terminated) else errors.INTERRUPTED
    return errors.DONE


def _positive(code: int) -> int:
    return 128 - code if code < 0 else code


@contextmanager
def _marked() -> Iterator[None]:
    """The processes know that they are launched, and torch's launcher leaves the words to them."""
    import logging

    before = os.environ.get(LAUNCHED)
    names = ("multiprocessing.api", "agent.server.api")
    levels = {logging.getLogger(f"torch.distributed.elastic.{name}"): logging.CRITICAL for name in names}
    os.environ[LAUNCHED] = BY_US
    try:
        for logger, level in levels.items():
            levels[logger] = logger.level
            logger.setLevel(level)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        os.environ.pop(LAUNCHED)
        if before is not None:
            os.environ[LAUNCHED] = before


def _with_world_size(wanted: Launch, count: int | None) -> list[str]:
    said = any(word.split("=")[0] == "--expected_world_size" for word in wanted.words)
    if count is None or said or "expected_world_size" not in wanted.command.fields():
        return list(wanted.words)
    return [*wanted.words, "--expected_world_size", str(count)]


def _kind(config: Any) -> str:
    return str(getattr(config, "distributed_type", "")).rpartition(".")[2]


def _check_cpu(wanted: Launch, options: Any, config: Any, machines: int) -> None:
    if options.use_deepspeed or options.use_fsdp or _kind(config) in ("DEEPSPEED", "FSDP"):
        raise ValueError(
            "DeepSpeed and FSDP need accelerators, and there is none. Leave --accelerate_config out: --num_processes "
            "alone trains data parallel on the CPU."
        )
    if machines > 1:
        raise ValueError("Without accelerators the processes are started on one machine. Use torchrun for several.")
    names = [word.removeprefix("--").split("=")[0].replace("-", "_") for word in wanted.options if word[:2] == "--"]
    foreign = [name for name in names if name not in _ON_CPU]
    if foreign or options.mixed_precision not in (None, "no"):
        raise ValueError(f"--{(foreign or ['mixed_precision'])[0]} needs an accelerator, and there is none.")


def _parsed(wanted: Launch) -> Any:
    return _parse_launch([*wanted.options, "--module", "hf_reason.cli"])


def _parse_launch(arguments: Sequence[str]) -> Any:
    from accelerate.commands.launch import launch_command_parser

    def refuse(message: str) -> None:
        raise ValueError(f"accelerate launch: {message}")

    parser = launch_command_parser()
    parser.error = refuse
    return parser.parse_args(list(arguments))


def _config_of(options: Any) -> Any:
    """The configuration of accelerate that a launch uses, or `None`."""
    from accelerate.commands.config.config_args import load_config_from_file

    path = options.config_file or (None if options.cpu else default_config())
    if path is None:
        return None
    if not Path(path).is_file():
        raise ValueError(f"--config_file {path}: there is no such file.")
    return load_config_from_file(str(path))
