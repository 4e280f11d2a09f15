"""A row of a source, a row that cannot be read, and the error for both."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from hf_reason._visible import visible
from hf_reason.data.record import DataError

_log = logging.getLogger(__name__)
FIX = "Fix it, or leave such rows out with skip_broken=True (--skip_broken)."


class SourceError(DataError):
    """A source that cannot be read, or a row in it that no layout can use."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be read: `label` and `number` as in `Row`, and a message that names both."""

    label: str
    number: int
    message: str

    def __str__(self) -> str:
        return self.message

    @property
    def source(self) -> str:
        return f"{self.label}#{self.number}"


# Called for a row that cannot be read. It raises, or reports the row and returns, and reading continues.
OnBroken = Callable[[BrokenRow], None]


@dataclass(frozen=True)
class Row:
    """One row as the file has it: `label` names the file, `number` counts from 1 (in JSONL: the line)."""

    label: str
    number: int
    values: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.label}#{self.number}"


def refuse(row: BrokenRow) -> NoReturn:
    """Stop at the first broken row."""
    raise SourceError(row.message)


def log_broken(row: BrokenRow) -> None:
    """Skip broken rows, with a warning in the log."""
    _log.warning("%s", visible(str(row)))
