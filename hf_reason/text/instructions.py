"""Instruction templates of the domains: built in, from a YAML of the user's, or saved beside a model."""

import os
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hf_reason._files import is_first_process, write_atomically
from hf_reason.data.record import DOMAINS

INSTRUCTIONS_FILE = "instructions.yaml"
FIELDS = ("context", "task", "domain")
# The key for domains that have no template of their own.
FALLBACK = "default"
_BUILT_IN = Path(__file__).with_name(INSTRUCTIONS_FILE)


def template_fields(template: str) -> set[str]:
    """Names in braces of a template.

    Raises:
        ValueError: if the braces do not match.
    """
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def check_instructions(instructions: Mapping[str, Any], where: str = "instructions") -> dict[str, str]:
    """The templates, checked.

    Args:
        instructions: Domain -> template.
        where: For the message: the file, say.

    Raises:
        ValueError: for an unknown domain, a template that is not text, or a field that a record does not have.
    """
    for domain, template in instructions.items():
        if domain not in (*DOMAINS, FALLBACK):
            raise ValueError(f"{where}: there is no domain {domain!r}. Domains are {', '.join(DOMAINS)}, {FALLBACK}.")
        if not isinstance(template, str):
            raise ValueError(
                f"{where}: the template of {domain} is {type(template).__name__}, not text. Put it in quotes."
            )
        try:
            unknown = template_fields(template) - set(FIELDS)
        except ValueError as error:
            raise ValueError(f"{where}: the template of {domain}: {error}. A brace itself is written {{{{.") from error
        if unknown:
            raise ValueError(
                f"{where}: the template of {domain} has the field {', '.join(sorted(unknown)) or '{}'}, which a "
                f"record does not have. Fields are {', '.join(FIELDS)}; a brace itself is written {{{{."
            )
    return dict(instructions)


def load_instructions(source: str | os.PathLike[str] | None) -> dict[str, str]:
    """The templates that a recipe's `instructions` names.

    Args:
        source: `None` for no templates, `"default"` for the built-in ones, or a YAML file, domain -> template.

    Raises:
        ValueError: if the file is missing, or is not such a YAML.
    """
    if source is None:
        return {}
    path = _BUILT_IN if source == FALLBACK else Path(source)
    if not path.is_file():
        raise ValueError(f"instructions: there is no file {path}. Give a YAML (domain: template), or 'default'.")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} must have lines 'domain: template', but it is {type(loaded).__name__}.")
    return check_instructions(loaded, str(path))


def save_instructions(folder: str | os.PathLike[str], instructions: Mapping[str, str]) -> None:
    """Write the templates into a model's folder, so that evaluation and serving prompt it as training did.

    Only the first of several processes writes.
    """
    if not is_first_process():
        return
    text = yaml.safe_dump(dict(instructions), allow_unicode=True, sort_keys=False)
    write_atomically(Path(folder, INSTRUCTIONS_FILE), text)


def saved_instructions(model: str) -> dict[str, str]:
    """The templates saved with a model, in its folder or on the Hub; empty if there are none."""
    from transformers.utils import cached_file

    if os.path.isdir(model):
        path: Any = Path(model, INSTRUCTIONS_FILE)
        return load_instructions(path) if path.is_file() else {}
    path = cached_file(
        model,
        INSTRUCTIONS_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return load_instructions(path) if path else {}
