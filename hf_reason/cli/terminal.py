"""What a command reads from and writes to: the encoding of its words and streams, progress bars and known noise."""

import os
import sys
import warnings
from collections.abc import Sequence

# Seconds between two lines of a progress bar that goes to a file.
_BAR_INTERVAL = "30"


def set_up() -> None:
    """Prepare this process for a command; called before any library is imported."""
    _replace_what_cannot_be_written()
    _slow_bars_in_files()
    # said by TRL's own use of the property, which no user of a command can change
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)


def readable(words: Sequence[str]) -> list[str]:
    """The words of a command line as text.

    Where the locale is not UTF-8, Python keeps the bytes of a word that it cannot decode as surrogates, which no
    tokenizer and no file accepts. Words in UTF-8 are decoded here.

    Raises:
        ValueError: if a word is not UTF-8 either.
    """
    return [_readable(word) for word in words]


def _readable(word: str) -> str:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        if os.path.exists(word):  # a path keeps its bytes
            return word
        try:
            return os.fsencode(word).decode("utf-8")
        except UnicodeError as error:
            shown = word.encode("ascii", "replace").decode("ascii")
            raise ValueError(
                f"{shown!r} is not UTF-8. Set the terminal to UTF-8 (LANG=C.UTF-8), or give the text in a UTF-8 YAML "
                "by --config."
            ) from error
    return word


def _replace_what_cannot_be_written() -> None:
    """A character that the terminal's encoding lacks is shown as `?`; stderr escapes it already."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _slow_bars_in_files() -> None:
    """tqdm reads these when it is imported, and so do the bars of transformers and datasets, which are made of it."""
    if sys.stderr is None or sys.stderr.isatty():
        return
    os.environ.setdefault("TQDM_MININTERVAL", _BAR_INTERVAL)
    os.environ.setdefault("TQDM_DELAY", _BAR_INTERVAL)
