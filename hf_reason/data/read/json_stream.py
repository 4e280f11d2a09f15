"""An incremental JSON reader: the values of a file one by one, whatever its size."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

_CHUNK = 1 << 20
# An error this close to what has been read so far may only mean that the value continues.
_MARGIN = 16
_SPACE = " \t\r\n"


class BrokenJson(ValueError):
    """Text that is not JSON. `line` counts from 1."""

    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


class _Buffer:
    """The part of a text that is not consumed yet."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._decoder = json.JSONDecoder()
        self._line = 1
        self.text = ""
        self.position = 0
        self.at_end = False

    def more(self) -> None:
        """Drop what is consumed and read more, as much as is buffered at least: a long value costs linear time."""
        self._line += self.text.count("\n", 0, self.position)
        self.text, self.position = self.text[self.position :], 0
        raw = self._file.read(max(_CHUNK, len(self.text)))
        self.at_end = not raw
        try:
            self.text += self._decode(raw, self.at_end)
        except UnicodeDecodeError as error:
            raise BrokenJson(f"not UTF-8: {error.reason}", self._line + self.text.count("\n")) from error

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in _SPACE:
                self.position += 1
            if self.position < len(self.text) or self.at_end:
                return self.text[self.position : self.position + 1]
            self.more()

    def value(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.position)
            except json.JSONDecodeError as error:
                complete = self.at_end or (
                    error.pos < len(self.text) - _MARGIN and not error.msg.startswith("Unterminated string")
                )
                if complete:
                    raise self.broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.broken("nested too deeply", self.position) from error
            else:
                self.position = end
                return value
            self.more()

    def broken(self, message: str, position: int | None = None) -> BrokenJson:
        end = self.position if position is None else position
        return BrokenJson(message, self._line + self.text.count("\n", 0, end))


def stream_values(file: IO[bytes]) -> Iterator[Any]:
    """The elements of a top-level array, or else the values that follow each other in the file.

    So an array, one object over many lines and JSON Lines under the name `.json` are all read, with one value
    and a chunk of about a megabyte in memory.

    Raises:
        BrokenJson: where the text stops being JSON.
    """
    buffer = _Buffer(file)
    if buffer.peek() != "[":
        while buffer.peek():
            yield buffer.value()
        return
    buffer.position += 1
    if buffer.peek() == "]":
        buffer.position += 1
    else:
        while True:
            if not buffer.peek():
                raise buffer.broken("the array is never closed")
            yield buffer.value()
            mark = buffer.peek()
            buffer.position += 1
            if mark == "]":
                break
            if mark != ",":
                raise buffer.broken("expecting ',' or ']' after an element" if mark else "the array is never closed")
    if buffer.peek():
        raise buffer.broken("more text after the array")
