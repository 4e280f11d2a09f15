"""One clear line for the errors a user can mend; a traceback only for the others."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print `ValueError`, `OSError` and launch errors as one line and exit with 2; Ctrl-C exits with 130.

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
