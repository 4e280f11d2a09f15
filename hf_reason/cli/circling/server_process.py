"""`hf-reason serve` on a socket that the process was given; it ends when the process that started it does."""

import socket
import sys
import threading
from collections.abc import Sequence

from hf_reason.cli import errors, serve
from hf_reason.cli.stages.process import end_with_parent


def main(words: Sequence[str]) -> int:
    """Serve.

    Args:
        words: The number of the socket's file, and the arguments of `serve`.
    """
    threading.Thread(target=end_with_parent, daemon=True).start()
    errors.silence_import_noise()
    with socket.socket(fileno=int(words[0])) as sock:
        return errors.run(lambda: serve.main(words[1:], sock))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
