"""Messages of the package, which name arguments as Python spells them, in the spelling of the command line."""

import re
from collections.abc import Container

# `overwrite=True (--overwrite)`: the message has both spellings
_BOTH = re.compile(r"\b(\w+)=\w*\s*\((--\1)\)")
_VALUE = re.compile(r"(?<![\w.?&-])(\w+)=(True|False|None|-?\d[\w.]*|'[^']*')(?=[\s,.;:)]|$)")
# what a Python caller builds, and the command line switches on
_OBJECTS = (("a peft_config (use_peft)", "--use_peft true"), ("pass --", "give --"))
_WORDS = {"True": "true", "False": "false", "None": "none"}


def as_typed(message: str, arguments: Container[str]) -> str:
    """A message with `name=value` as `--name value`.

    Args:
        message: Of an error.
        arguments: Names of the command's arguments; others keep their spelling.
    """

    def typed(match: re.Match[str]) -> str:
        name, value = match.groups()
        return f"--{name} {_WORDS.get(value, value)}" if name in arguments else match.group()

    message = _VALUE.sub(typed, _BOTH.sub(r"\2", message))
    for python, option in _OBJECTS:
        message = message.replace(python, option)
    return message
