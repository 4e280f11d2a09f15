"""Files that may be compressed, and one error for those that are damaged, incomplete, or no data at all."""

import bz2
import gzip
import io
import lzma
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .rows import BrokenRow, OnBroken, Row, SourceError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
# How to print such a file uncompressed.
_UNPACK = {".gz": "gunzip -c", ".bz2": "bunzip2 -c", ".xz": "xz -dc", ".zst": "zstd -dc"}
# First bytes of a file that stands where data should be.
_STAND_INS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the data. Run `git lfs pull` in its folder.",
    b"<!doctype html": "it is a web page, not data. Download the file itself again.",
    b"<html": "it is a web page, not data. Download the file itself again.",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_bytes(path: Path) -> IO[bytes]:
    """A file's content, uncompressed if its name ends in one of `COMPRESSIONS`."""
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if ending == ".bz2":
        return bz2.open(path, "rb")
    if ending == ".xz":
        return lzma.open(path, "rb")
    if ending == ".zst":
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def check_is_data(path: Path, label: str) -> None:
    """Raise `SourceError` for a file that stands where the data should be: a Git LFS pointer or a web page."""
    with path.open("rb") as file:
        start = file.read(32).lstrip().lower()
    for begins, told in _STAND_INS.items():
        if start.startswith(begins):
            raise SourceError(f"{label}: {told}")


def how_to_convert(path: Path) -> str:
    """How to write a file in UTF-8, as a sentence."""
    text, ending = shlex.quote(str(path)), path.suffix.lower()
    target = shlex.quote("utf8-" + (path.stem if ending in COMPRESSIONS else path.name))
    with open_bytes(path) as file:
        wide = file.read(2) in _UTF16
    written, found = ("UTF-16", "It is UTF-16") if wide else ("GB18030", "If it is GBK")
    if ending in COMPRESSIONS:
        return f"{found}: {_UNPACK[ending]} {text} | iconv -f {written} -t UTF-8 > {target}"
    return f"{found}: iconv -f {written} -t UTF-8 {text} > {target}"


def until_damage(rows: Iterator[Row], path: Path, label: str, on_broken: OnBroken) -> Iterator[Row]:
    """The rows of a file; where its compressed content is damaged, one broken row stands for the rest."""
    last = 0
    try:
        for row in rows:
            last = row.number
            yield row
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if path.suffix.lower() not in (*COMPRESSIONS, ".parquet", ".arrow") or isinstance(error, PermissionError):
            raise
        after = f"after row {last}" if last else "before its first row"
        message = (
            f"{label}: the file is damaged or incomplete {after} ({error}); the rest of it cannot be read. Copy or "
            "download it again."
        )
        on_broken(BrokenRow(label, last + 1, message))
