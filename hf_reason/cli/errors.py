"""One clear line for the errors a user can mend; a traceback only for the others."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print `ValueError`, `OSError` and launch errors as one line and exit with 2; Ctrl-C exits with 130.

    A process of several that comes to its end runs the exit functions and leaves at once: while an interpreter is torn
    down, gloo's threads may still let go of tensors, which aborts it (exit code -6) after all the work is done, and
    the launcher calls the run failed. Leaving the process group is not enough, what holds on to it may live longer.
    `HF_REASON_TRACEBACK=1` shows the whole traceback.
    """
    from hf_reason.trainers.launch import LaunchError

    try:
        yield
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, LaunchError) as error:
        if os.environ.get("HF_REASON_TRACEBACK") == "1":
            raise
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    distributed = sys.modules.get("torch.distributed")  # not imported here: some recipes need no torch
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
