"""A file that could not be written: the reason of the system, whatever library met it.

safetensors (Rust) and PyTorch's writer of checkpoints do not raise an `OSError`; a library that tidies up after one
often raises another error, with the first as its context.
"""

import errno
import os

from hf_reason._network import chain

_CODES = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS") if hasattr(errno, name))
# PyTorch's writer keeps the system's reason to itself
_OF_TORCH = ("PytorchStreamWriter failed", "inline_container.cc", "iostream error")
_FIXES = {
    errno.EFBIG: "Raise the limit of a file's size (ulimit -f), or choose another output_dir.",
    errno.EROFS: "Choose another output_dir.",
}
_ROOM = "Make room there, and run the same command again."


def why_unwritten(error: BaseException) -> str | None:
    """The line of an error that comes from a file that could not be written; `None` for any other error."""
    errors = list(chain(error))
    for each in errors:
        for code in _CODES:
            if isinstance(each, OSError) and each.errno == code:
                where = f"{each.filename}: " if each.filename is not None else ""
                return f"{where}{os.strerror(code)}. {_FIXES.get(code, _ROOM)}"
            if f"os error {code})" in str(each):  # as Rust writes it
                return f"a file cannot be written: {os.strerror(code)}. {_FIXES.get(code, _ROOM)}"
    if any(part in str(each) for each in errors if isinstance(each, RuntimeError) for part in _OF_TORCH):
        return f"a checkpoint cannot be written whole: is there space left on its disk? {_ROOM}"
    return None
