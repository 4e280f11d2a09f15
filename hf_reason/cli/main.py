"""`hf-reason <command>`: finds the command, its help, or the launcher that it wants to run under.

Nothing of torch or transformers is imported before the command is known to need it.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hf_reason.cli.parsing.commands import COMMANDS, Command, module_of
from hf_reason.cli.parsing.help import command_help, overview

from . import errors, terminal

# What people type who know the recipes of version 0.1, or other tools.
_KNOWN_AS = {
    "sft-cot": "sft",
    "train": "sft",
    "distill-kl": "distill",
    "lora-reasoner": "lora",
    "prepare-data": "prepare",
    "eval": "evaluate",
    "chat": "ask",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The command and its arguments; default: those of this process.

    Returns:
        The exit code; see `hf_reason.cli.errors`.
    """
    terminal.set_up()
    try:
        words = terminal.readable(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return errors.UNUSABLE
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return errors.DONE
    if words[0] in ("--version", "version"):
        from hf_reason.version import __version__

        print(f"hf_reason {__version__}")
        return errors.DONE
    command = COMMANDS.get(words[0].replace("_", "-"))
    if command is None:
        print(f"Error: {_unknown(words[0])}", file=sys.stderr)
        return errors.UNUSABLE
    words = words[1:]
    if {"-h", "--help", "--help_all", "--help-all"} & set(words):
        everything = bool({"--help_all", "--help-all"} & set(words))
        errors.run(lambda: print(command_help(command, everything), end=""))
        return errors.DONE
    _drop_script_folder()
    errors.silence_import_noise()
    code = errors.run(lambda: _start(command, words), arguments=command.fields)
    errors.leave_together(code)
    return code


def _drop_script_folder() -> None:
    """`python recipes/ask.py` puts recipes/ first on the path, where evaluate.py would hide the library `evaluate`."""
    if sys.path and Path(sys.path[0], "evaluate.py").is_file():
        del sys.path[0]


def _unknown(name: str) -> str:
    plain = name.replace("_", "-")
    near = _KNOWN_AS.get(plain) or next(iter(difflib.get_close_matches(plain, COMMANDS, n=1)), None)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(COMMANDS)}."
    return f"there is no command {name!r}: {hint}"


def _start(command: Command, words: list[str]) -> int | None:
    """Run a command in this process, or start its processes."""
    if command.launches:
        from hf_reason._signals import end_with_parent
        from hf_reason.cli.parsing.launch_plan import BY_US, LAUNCHED, plan

        wanted = plan(command, words)
        if wanted is not None:
            from .launcher import launch

            return launch(wanted)
        if os.environ.get(LAUNCHED) == BY_US:
            end_with_parent()  # a launcher that was killed leaves no process behind
    return module_of(command).main(words)
