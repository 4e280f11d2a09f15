"""Names of models on a command line."""

from pathlib import Path


def named(given: str) -> tuple[str, str]:
    """`name=folder` as both; a folder (or a Hub name) alone is called by its last part."""
    name, equals, place = given.partition("=")
    if not equals or Path(given).exists():
        name, place = Path(given.rstrip("/")).name, given
    return name.strip(), place.strip()
