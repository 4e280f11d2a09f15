"""A file that cannot be written is one line, whatever library met it."""

import errno

import pytest

from hf_reason.cli import errors
from hf_reason.cli.unwritten import why_unwritten


def _raised(first, second):
    try:
        try:
            raise first
        except Exception:
            raise second  # noqa: B904 - as a library does while it tidies up
    except Exception as error:
        return error


class SafetensorError(Exception):
    pass


FULL = OSError(errno.ENOSPC, "No space left on device", "/out/model.bin")
RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
TORCH = "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file data/0: file write failed"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FULL, "/out/model.bin: No space left on device. Make room there, and run the same command again."),
        (OSError(errno.EFBIG, "File too large"), "File too large. Raise the limit of a file's size (ulimit -f)"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: Read-only file system. Choose another output_dir."),
        (RUST, "a file cannot be written: No space left on device. Make room there"),
        (RuntimeError(TORCH), "a checkpoint cannot be written whole: is there space left on its disk? Make room"),
        (_raised(FULL, RuntimeError("unexpected pos 64 vs 0")), "/out/model.bin: No space left on device. Make"),
        (_raised(RUST, KeyError("x")), "a file cannot be written: No space left on device. Make room there"),
    ],
)
def test_its_reason_is_that_of_the_system(error, line, capsys):
    def work():
        raise error

    assert errors.run(work) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"Error: {line}")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "No such file", "x"), RuntimeError("a bug"), ValueError("28")]
)
def test_other_errors_are_what_they_were(error):
    assert why_unwritten(error) is None
