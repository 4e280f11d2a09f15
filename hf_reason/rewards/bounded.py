"""The checker under a clock, also outside of the main thread.

math-verify stops a long computation by SIGALRM, which only the main thread can set. In any other thread (a reward
function of an asynchronous trainer, a pool) what may need it is checked by a child process, which is killed when it
takes too long.
"""

import atexit
import json
import select
import signal
import subprocess
import sys
import threading
from functools import lru_cache

from hf_reason.answers.forms import pure_number
from hf_reason.answers.verify import answers_match

# math-verify's own limit in the main thread is 3 seconds each for parsing (twice) and for comparing.
TIMEOUT_SECONDS = 10.0
_START_SECONDS = 120.0
_COMMAND = ("-m", "hf_reason.rewards.bounded")


class _Child:
    """A process that checks one pair at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def check(self, answer: str, reference: str) -> bool | None:
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                self.start()
            pair = json.dumps([answer, reference]) + "\n"
            reply = self.ask(pair, TIMEOUT_SECONDS)
            return None if reply is None else {"1": True, "0": False}.get(reply)

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, *_COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        # importing the checker must not count as checking
        if self.ask(json.dumps(["$x$", "$x$"]) + "\n", _START_SECONDS) is None:
            raise RuntimeError(
                "The process that checks answers outside of the main thread did not start. Run it to see why: "
                "python -m hf_reason.rewards.bounded"
            )

    def ask(self, line: str, seconds: float) -> str | None:
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
            if select.select([process.stdout], [], [], seconds)[0]:
                return process.stdout.readline().decode().strip() or None
        except OSError:
            pass
        self.stop()
        return None

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


_CHILD = _Child()
atexit.register(_CHILD.stop)


def has_clock() -> bool:
    """Whether math-verify can stop itself here: in the main thread, while nobody else's alarm is running."""
    return threading.current_thread() is threading.main_thread() and not signal.getitimer(signal.ITIMER_REAL)[0]


# The completions of a group often have the same answer.
@lru_cache(maxsize=2**14)
def answers_match_in_time(answer: str, reference: str) -> bool | None:
    """`answers_match` that ends: `None` after `TIMEOUT_SECONDS`, in whatever thread."""
    if has_clock() or pure_number(reference) is not None:
        return answers_match(answer, reference)
    return _CHILD.check(answer, reference)


def _serve() -> None:
    for line in sys.stdin:
        verdict = answers_match(*json.loads(line))
        print("?" if verdict is None else int(verdict), flush=True)


if __name__ == "__main__":
    _serve()
