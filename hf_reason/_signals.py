"""SIGTERM, as schedulers send it before they kill: an exception that commands clean up after, as after Ctrl-C."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came. What cleans up after Ctrl-C cleans up after it, too."""


@contextmanager
def handling(handler: Any) -> Iterator[None]:
    """Inside, SIGTERM calls `handler(number, frame)`; in processes that are forked there it ends them, as usual.

    Nothing changes outside of the main thread, which alone can have handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def own(number: int, frame: Any) -> None:
        if os.getpid() != process:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        handler(number, frame)

    before = signal.signal(signal.SIGTERM, own)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextmanager
def terminating() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`, unless the program has a handler of its own already."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return

    def end(*_: Any) -> None:
        raise Terminated

    with handling(end):
        yield


def end_with_parent() -> None:
    """Send this process SIGTERM when its parent dies, however it does (Linux; elsewhere nothing is done)."""
    if not sys.platform.startswith("linux"):
        return
    parent_dies = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(parent_dies, signal.SIGTERM)
