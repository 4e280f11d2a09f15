"""How a command ends: one clear line for an error that its user can fix, and an exit code that says what kind it was.

| code | meaning |
|---|---|
| 0 | done, or nothing to do |
| 2 | the command line, a file, the data or the launch cannot be used; the last line begins with `Error:` |
| 3 | a guard refused the result: the model forgot, or lost by compression, more than `max_drop` allows |
| 130 | Ctrl-C |
| 143 | SIGTERM |
| other | an error of the program, with its traceback |
"""

import atexit
import logging
import os
import sys
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from hf_reason._network import why_unreachable
from hf_reason._signals import Terminated, terminating
from hf_reason._visible import visible
from hf_reason.cli.parsing.spelling import as_typed

from .unwritten import why_unwritten

DONE, UNUSABLE, REFUSED, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143
# Variables of the environment in which `compress` tells its stages what to say around an error.
PLACE, HINT = "HF_REASON_STAGE", "HF_REASON_STAGE_HINT"
# How long another process of a launch leaves the word to the first, which most often has the same to say.
_PATIENCE = 15.0

_interrupt_message: Callable[[], str] | None = None


def on_interrupt(message: Callable[[], str] | None) -> None:
    """What Ctrl-C and SIGTERM print from now on; called only when it happens."""
    global _interrupt_message
    _interrupt_message = message


def training_state(output_dir: str) -> str:
    """What is left of a training run that was stopped now."""
    from hf_reason.trainers.resuming import last_checkpoint

    checkpoint = last_checkpoint(output_dir)
    if checkpoint is None:
        return "Nothing was saved yet: the same command starts anew."
    return f"The same command resumes from {Path(checkpoint).name}."


def run(work: Callable[[], int | None], arguments: Callable[[], Container[str]] = tuple) -> int:
    """Do the work of a command.

    `HF_REASON_TRACEBACK=1` raises errors instead of printing their line.

    Args:
        work: Returns the exit code.
        arguments: Gives the names of the command's arguments, which messages then spell as they are typed.

    Returns:
        The exit code.
    """
    try:
        with terminating():
            return work() or DONE
    except BrokenPipeError:  # the reader of a pipe has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (KeyboardInterrupt, Exception) as error:
        code = _told(error, arguments)
        if code is None:
            raise
        return code
    finally:
        on_interrupt(None)
        if (folders := sys.modules.get("hf_reason.data.output_folder")) is not None:
            folders.release_all()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """`run` for a script: exits with the code of an error, and leaves a group of processes at the end."""
    try:
        with terminating():
            yield
    except (KeyboardInterrupt, Exception) as error:
        code = _told(error)
        if code is None:
            raise
        sys.exit(code)
    leave_together(DONE)


def _told(error: BaseException, arguments: Callable[[], Container[str]] = tuple) -> int | None:
    """The exit code of an error whose line was printed; `None` for an error of the program."""
    if isinstance(error, KeyboardInterrupt):
        terminated = isinstance(error, Terminated)
        if _is_first():
            message = _interrupt_message() if _interrupt_message is not None else ""
            print(f"\n{'Ended by SIGTERM' if terminated else 'Interrupted'}. {message}".rstrip(), file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED
    if os.environ.get("HF_REASON_TRACEBACK") == "1" or not _is_of_the_user(error) and why_unwritten(error) is None:
        return None
    if not _is_first():
        time.sleep(_PATIENCE)  # the launcher stops this process when the first ends with the same error
    place, hint = os.environ.get(PLACE), os.environ.get(HINT)
    line = visible(as_typed(_line(error), arguments()))
    print(f"Error: {f'{place}: ' if place else ''}{line}{f' {hint}' if hint else ''}", file=sys.stderr, flush=True)
    return REFUSED if type(error).__name__ in ("ForgettingError", "GateError") else UNUSABLE


def _line(error: BaseException) -> str:
    unwritten = why_unwritten(error)
    if unwritten is not None:
        return unwritten
    if not isinstance(error, OSError | ValueError) and (unreachable := why_unreachable(error)) is not None:
        return f"the Hub or a server cannot be reached: {unreachable}. Run the same command again."
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if type(error).__module__.startswith("hf_reason"):
        return str(error)  # a list of layouts, or the end of a log, has its lines
    text = " ".join(str(error).split())
    if type(error).__name__ == "UnpicklingError" and "global" in text.lower():  # the loaders run no code of a file
        return (
            "a file of weights or of a checkpoint is a pickle with more in it than tensors, which could be any "
            "program, so it is not loaded. Use safetensors, from a place that you trust."
        )
    if type(error).__name__ in (
        "SafetensorError",
        "UnpicklingError",
    ):  # where the file is not known; see `readable_weights`
        return f"a file of weights is damaged: {text}. Copy or download it again."
    return text


def leave_together(code: int) -> None:
    """End a process of several at once, after the exit functions; a single process returns.

    While an interpreter is torn down, gloo's threads may still free tensors, which aborts it (exit code -6) after all
    the work is done, and the launcher calls the run failed. Leaving the process group is not enough: what holds on to
    it may live longer. A process that failed leaves without a word to the others, which may wait for it forever.
    """
    distributed = sys.modules.get("torch.distributed")  # not imported here: some commands need no torch
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    if code == DONE:
        distributed.destroy_process_group()
        atexit._run_exitfuncs()
    elif distributed.get_world_size() == 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_IMPORT_NOISE = {
    # bitsandbytes, which PEFT imports: a kernel that only 4-bit models on a CPU would use
    "bitsandbytes.backends.cpu.ops": "gemm_4bit_forward",
    # torchao, which comes with gptqmodel: kernels for accelerators that are not there
    "torchao": "Failed to load",
    "torchao.kernel.intmm": "no triton",
    "torch.utils._pytree": "register_constant() on Enum",
}


def silence_import_noise() -> None:
    """Libraries warn at their import, on the terminal of every command, about what the command does not use."""
    for name, text in _IMPORT_NOISE.items():
        logging.getLogger(name).addFilter(partial(_says_else, text))


def _says_else(text: str, record: logging.LogRecord) -> bool:
    return text not in record.getMessage()


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _is_of_the_user(error: BaseException) -> bool:
    from hf_reason._renamed import RenamedArgumentError

    if isinstance(error, ValueError | OSError | RenamedArgumentError):
        return True
    if type(error).__name__ in ("SafetensorError", "UnpicklingError"):
        return True
    if why_unreachable(error) is not None:
        return True
    return type(error).__name__ in ("LaunchError", "RunFailedError") and isinstance(error, RuntimeError)
