"""An output folder: it can be made, is no folder that the run reads, and no other run writes to it."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .record import DataError


def check_output_dir(output_dir: str | os.PathLike[str]) -> None:
    """Refuse an output folder that cannot be made or written to. Nothing is made.

    Raises:
        DataError: if it is a file or below one, or there is no permission to write there.
    """
    for place in (path := Path(output_dir).absolute(), *path.parents):
        if not os.path.lexists(place):
            continue
        if not place.is_dir():
            what = "is a file" if place == path else f"cannot be made: {place} is a file"
            raise DataError(f"output_dir {output_dir} {what}. Choose a folder as output_dir.")
        if not os.access(place, os.W_OK | os.X_OK):
            what = "is not writable" if place == path else f"cannot be made: {place} is not writable"
            raise DataError(f"output_dir {output_dir} {what}. Choose another output_dir.")
        return


def check_output_apart(output_dir: str | os.PathLike[str], data: Iterable[str], models: Iterable[str]) -> None:
    """Refuse an output folder that would be mixed up with what the run reads.

    Args:
        output_dir: Where the run writes.
        data: Data folders, files and Hub names; the output is neither one of the folders nor inside one.
        models: Folders and Hub names of models; the output is none of them.

    Raises:
        DataError: (one line) if it is.
    """
    output = Path(output_dir).resolve()
    for name in data:
        if os.path.isdir(name) and output.is_relative_to(Path(name).resolve()):
            where = "is" if output == Path(name).resolve() else "is inside"
            raise DataError(f"output_dir {output_dir} {where} the data folder {name}. Choose another output_dir.")
    for name in models:
        if os.path.isdir(name) and output == Path(name).resolve():
            raise DataError(
                f"output_dir {output_dir} is the folder of the model {name}, which would be overwritten. Choose "
                "another output_dir."
            )


# Folders that this process holds, with what holds them.
_held: dict[Path, int] = {}
# Processes of a run that was killed need a moment to end.
_PATIENCE = 15.0


def hold(folder: Path) -> None:
    """Make a folder and keep other processes out of it, until this one ends or `release_all` is called.

    Nothing is written: the folder itself is locked. On file systems and platforms that cannot, nothing happens.

    Raises:
        DataError: if another run holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    if folder in _held or sys.platform == "win32":
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _held[folder] = handle
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(handle)
                raise DataError(
                    f"{folder.name}: another run is writing to this output_dir. Wait, or choose another one."
                ) from error
            time.sleep(0.2)
        except OSError:  # no locks here
            os.close(handle)
            return


def release_all() -> None:
    """Let go of the folders that this process holds."""
    while _held:
        os.close(_held.popitem()[1])


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other runs out of it.

    Raises:
        DataError: if another run is writing there.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DataError(f"{folder}: another run is writing here. Wait, or choose another output_dir.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(path: Path, wait: float = -1) -> Iterator[None]:
    """For a file that several runs read and add to: inside, this run alone does; the others wait.

    Args:
        path: The file; `.<name>.lock` beside it is locked.
        wait: Most seconds to wait; below 0: as long as it takes.

    Raises:
        DataError: if another run has it for longer.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"Waiting for another run that works on {path.name}.", file=sys.stderr, flush=True)
            lock.acquire(timeout=wait)
    except Timeout as error:
        raise DataError(f"{path}: another run is working on it. Wait, or choose another cache_dir.") from error
    try:
        yield
    finally:
        lock.release()
