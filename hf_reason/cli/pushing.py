"""A push that fails: the run is finished all the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_reason._network import why_unreachable


@contextmanager
def pushing(output: str | Path, name: str) -> Iterator[None]:
    """While a finished folder is pushed.

    Raises:
        ValueError: with what can be done, if the push fails; the folder is finished all the same.
    """
    try:
        yield
    except Exception as error:
        network = why_unreachable(error)
        reason = f"the Hub cannot be reached ({network})" if network else " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{output} is finished, but was not pushed to {name}: {reason}. The same command pushes it."
        ) from error
