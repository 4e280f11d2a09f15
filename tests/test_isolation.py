"""Tests and package are the same on every machine: no Hub, no cache of an earlier run, no path of a machine."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A home or a mount of some machine, or a drive of Windows.
MACHINE_PATH = re.compile(
    r"(?<![\w.<{}~-])/(?:home|root|Users|work|mnt|workspace|scratch|tmp)/\w|\b[A-Z]:\\\\?(?:Users|home)"
)


def _tracked_files() -> list[Path]:
    """Files of the package, the recipes and the tests, this one left out: from git, or all of them without it."""
    folders = ["hf_reason", "recipes", "tests"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return [path for path in paths if path.is_file() and path.name != Path(__file__).name and path.suffix != ".pyc"]


def test_nothing_names_a_path_of_a_machine():
    found = []
    for path in _tracked_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a Parquet file or a picture
        found += [
            f"{path.relative_to(ROOT)}:{n}: {line}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line", ["open('/home/me/x')", "/root/data", r"C:\Users\me", "/mnt/data"])
def test_such_a_path_is_seen(line):
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["https://x/home/y", "{base}/root/a", "outputs/home/x"])
def test_other_paths_are_not(line):
    assert not MACHINE_PATH.search(line)


def test_the_hub_is_off_and_the_caches_are_the_tests_own():
    from datasets import config
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE and config.HF_HUB_OFFLINE
    for cache in (constants.HF_HOME, constants.HF_HUB_CACHE, config.HF_DATASETS_CACHE, os.environ["HF_HOME"]):
        assert Path(cache).is_relative_to(tempfile.gettempdir())
