"""Refuses a launch that quietly became something else than what was asked for.

accelerate decides by itself how many processes train together, and two of its decisions are silent:

- `accelerate launch --cpu --num_processes 2` (or a MULTI_CPU config) starts one process. The launcher still exports
  MASTER_ADDR and MASTER_PORT for it, but neither WORLD_SIZE nor the number, which only its command line knows.
- torchrun, or an FSDP config, without `use_cpu` on a machine without an accelerator starts n processes that each train
  alone and write the same output. torch.distributed then reports n: only accelerate's own state tells the truth.
"""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# where launchers leave the number of processes: torchrun, then MPI's dialects (the ones accelerate reads)
_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LAUNCH_MODULES = ("accelerate.commands.launch", "accelerate.commands.accelerate_cli")


class LaunchError(RuntimeError):
    """The processes that train together are not the ones that were asked for."""


@dataclass(frozen=True)
class LaunchRequest:
    """How many processes the launcher was told to start (None: it left no trace), and where that was read."""

    processes: int | None
    origin: str = "no launcher"


def check_world_size(expected: int | None = None) -> int:
    """Assert that as many processes train together as were asked for.

    Call it after the training arguments (or an `Accelerator`) exist: they start the process group.

    Args:
        expected: The number a recipe was told to expect (`expected_world_size`); None to trust the launcher's traces.

    Returns:
        The number of processes that train together.

    Raises:
        LaunchError: Too few or too many processes take part, or it is too early to know; the message says what to do.
    """
    request = find_launch_request(os.environ)
    asked, actual = request.processes, _joined_processes()
    if actual is None:
        if max(asked or 1, expected or 1) > 1:
            raise LaunchError(
                f"{request.origin} asked for {asked or expected} processes, but nothing has joined them yet. "
                "Build the training arguments (or accelerate.Accelerator) before check_world_size()."
            )
        actual = 1
    if asked is not None and asked != actual:
        raise LaunchError(_explain(request, actual))
    if expected is not None and expected != actual:
        raise LaunchError(
            f"expected_world_size is {expected}, but {actual} process(es) train together. Launch on GPUs with "
            f"`accelerate launch --num_processes {expected} ...`, on CPU with `torchrun --nproc_per_node {expected} "
            "... --use_cpu true`, or correct expected_world_size."
        )
    _warn_if_fsdp_is_not_used()
    return actual


def find_launch_request(env: Mapping[str, str], command: list[str] | None = None) -> LaunchRequest:
    """What the launcher of this process was told.

    Args:
        env: The environment of this process.
        command: The command line to look at in place of those of the parent processes.
    """
    for name in _COUNTS:
        if env.get(name, "").isdigit():
            return LaunchRequest(int(env[name]), f"{name} in the environment")
    # `accelerate launch` exports the precision always, the port when it was told of more than one process
    if "ACCELERATE_MIXED_PRECISION" not in env or "MASTER_PORT" not in env:
        return LaunchRequest(None)
    for line in [command] if command is not None else _ancestor_commands():
        count = _count_in_command(line)
        if count is not None:
            return LaunchRequest(count, "accelerate launch")
    return LaunchRequest(None)


def _joined_processes() -> int | None:
    """The processes accelerate trains with; None while its state is not set up."""
    from accelerate import PartialState

    if PartialState._shared_state == {}:
        return None
    return int(PartialState().num_processes)


def _ancestor_commands() -> list[list[str]]:
    """Command lines of the processes above this one, nearest first, as far as they may be read."""
    import psutil

    commands = []
    for process in psutil.Process().parents():
        try:
            commands.append(process.cmdline())
        except psutil.Error:
            continue
    return commands


def _count_in_command(command: list[str]) -> int | None:
    """`num_processes` of an `accelerate launch` command line, with the config file it names; None for any other."""
    arguments = _launch_arguments(command)
    if arguments is None:
        return None
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    try:
        options, _ = launch_command_parser().parse_known_args(arguments)
    except SystemExit:
        return None
    count, config = options.num_processes, options.config_file
    if config is None and not options.cpu and Path(default_config_file).is_file():
        config = default_config_file
    if count is None and config is not None and Path(config).is_file():
        count = load_config_from_file(config).num_processes
    return None if count is None else int(count)


def _launch_arguments(command: list[str]) -> list[str] | None:
    """What follows the launcher's name on its command line, in each of the spellings it has."""
    for position, word in enumerate(command[:4]):
        name, rest = Path(word).name, command[position + 1 :]
        if name == "accelerate-launch" or word == _LAUNCH_MODULES[0] or word.endswith("accelerate/commands/launch.py"):
            return rest
        if (name == "accelerate" or word == _LAUNCH_MODULES[1]) and rest[:1] == ["launch"]:
            return rest[1:]
    return None


def _explain(request: LaunchRequest, actual: int) -> str:
    asked = request.processes
    on_cpu = f"On CPU, run `torchrun --nproc_per_node {asked} RECIPE --config FILE --use_cpu true`"
    if request.origin == "accelerate launch":
        return (
            f"`accelerate launch` was told --num_processes {asked} and started {actual} process: on CPU, and with "
            f"fewer than two GPUs, it always does. {on_cpu}; on GPUs, use a config of recipes/accelerate and no more "
            "processes than the machine has GPUs."
        )
    return (
        f"{request.origin} says {asked} processes, but {actual} train(s) together: each process would train alone and "
        f"overwrite the others' output. accelerate joins processes on CPU only when told so. {on_cpu} (or set "
        "`use_cpu: true` in the YAML); on GPUs, check that torch.cuda.is_available()."
    )


def _warn_if_fsdp_is_not_used() -> None:
    from accelerate import PartialState

    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and PartialState._shared_state:
        state = PartialState()
        if state.device.type == "cpu" and state.num_processes > 1:
            warnings.warn(
                "FSDP was asked for, but on CPU accelerate trains plain data parallel: each process holds all weights",
                stacklevel=3,
            )


_ONE_READS = "FSDP_CPU_RAM_EFFICIENT_LOADING"


def reads_on_first_alone() -> bool:
    """Whether FSDP lets the first process alone read the weights: until the training begins the others have none."""
    sharded, alone = (
        os.environ.get(name, "").lower() in ("true", "1") for name in ("ACCELERATE_USE_FSDP", _ONE_READS)
    )
    return sharded and alone and (_joined_processes() or 1) > 1


def read_on_every_process(why: str) -> None:
    """Let every process read the weights, for what needs the whole model before the training. Call it before loading.

    Args:
        why: What needs them, for the note that the first process prints.
    """
    if reads_on_first_alone():
        os.environ[_ONE_READS] = "false"
        if os.environ.get("RANK", "0") == "0":
            print(f"fsdp_cpu_ram_efficient_loading is switched off: {why}.", flush=True)
