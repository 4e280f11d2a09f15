"""Files of weights that cannot be read: which one it is, in place of the error of the library that reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from .adapter_loading import adapter_place, base_place

# A pickle with more in it than tensors: the error of the library says so.
_PROGRAM = "a program"


class DamagedWeightsError(ValueError):
    """A file of weights is cut off or overwritten."""


@contextmanager
def readable_weights(name: str) -> Iterator[None]:
    """While a model is loaded: an error that a damaged file causes becomes one line with the file's name.

    Args:
        name: Folder or Hub name of the model; an adapter's base is searched, too.

    Raises:
        DamagedWeightsError: if a file of the folders cannot be read. Another error passes.
    """
    try:
        yield
    except Exception as error:
        path, reason = _damaged_file(name)
        if path is None or reason == _PROGRAM:
            raise
        raise DamagedWeightsError(
            f"{path.parent}: the weights in {path.name} are damaged ({reason}). Copy or download them again, or load "
            "another checkpoint."
        ) from error


def pickled_alone(name: str) -> str | None:
    """The file of a folder (or of its base, if it holds an adapter) that has only pickled weights; else `None`."""
    for folder in map(Path, filter(None, (name, base_of_adapter(name)))):
        pickles = sorted(folder.glob("*model*.bin"))
        if pickles and not any(folder.glob("*.safetensors")):
            return str(pickles[0])
    return None


def base_of_adapter(name: str) -> str | None:
    """Where the base of an adapter's folder is; `None` if the folder holds no adapter, or names no base."""
    try:
        place = adapter_place(name) if Path(name).is_dir() else None
        return None if place is None else base_place(place)
    except (OSError, ValueError):
        return None


def _damaged_file(name: str) -> tuple[Path | None, str]:
    for folder in filter(None, (name, base_of_adapter(name))):
        for pattern, read in (("*.safetensors", _read_safetensors), ("*model*.bin", _read_pickle)):
            for path in sorted(Path(folder).glob(pattern)):
                try:
                    read(path)
                except Exception as error:
                    if isinstance(error, UnpicklingError) and "global" in str(error).lower():
                        return path, _PROGRAM
                    return path, " ".join(str(error).split())[:200] or type(error).__name__
    return None, ""


def _read_safetensors(path: Path) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        file.keys()


def _read_pickle(path: Path) -> None:
    import torch

    torch.load(path, map_location="meta", weights_only=True)
