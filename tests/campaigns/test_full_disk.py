"""A disk that is full in the middle of a command, a file that may not grow, and a disk that is read only.

With `HF_REASON_KILLS` of 2 and more it is every command.
"""

import errno
import os
import subprocess
import sys

import kill_cases
import pytest
from kills import KILLS, OUTPUT, Campaign

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and mounts of Linux"),
]
MANY = KILLS > 1
LIMITED = ["prepare", "quantize"]
FULL = ["prepare", "cache-teacher"]
READ_ONLY = ["cache-teacher", "evaluate", "sft", "quantize"]
# minutes in all, by hand
ALL = ["prepare", "augment", "generate-traces", "cache-teacher", "sft", "lora", "loar", "grpo", "continual"]
ALL += ["distill, cached", "evaluate", "quantize", "prune"]


class Disk:
    """A file system of its own in memory; needs the right to mount."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def mount(self, options):
        again = "remount," if self.folder.is_mount() else ""
        call = ["mount", "-t", "tmpfs", "-o", again + options, "hf_reason_tests", str(self.folder)]
        try:
            return subprocess.run(call, capture_output=True).returncode == 0
        except OSError:
            return False


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk")
    if not disk.mount("size=64m"):
        pytest.skip("needs the right to mount a file system in memory")
    yield disk
    subprocess.run(["umount", str(disk.folder)], check=True)


@pytest.fixture(scope="module")
def whole(forge, world, tmp_path_factory):
    """Unbroken runs: the campaign of a command."""
    known = {}

    def of(name):
        if name not in known:
            (case,) = (case for case in kill_cases.cases(world) if case.name == name)
            known[name] = Campaign(forge, tmp_path_factory.mktemp("whole"), case)
            known[name].unbroken()
        return known[name]

    return of


def _assert_refused(campaign, folder, code, reason):
    """One line that says why, and nothing that could be taken for a result."""
    log = folder / "log.txt"
    said = log.read_text("utf-8")
    line = said.strip().splitlines()[-1]
    assert code == 2 and "Traceback" not in said, said[-3000:]
    # PyTorch's writer keeps the reason of the system to itself
    assert line.startswith("Error: ") and (os.strerror(reason) in line or "written whole" in line), said[-1000:]
    log.unlink()
    campaign.assert_nothing_half(folder / OUTPUT)


@pytest.mark.parametrize("name", ALL if MANY else LIMITED)
def test_a_file_that_cannot_grow(name, forge, whole, tmp_path):
    """The largest file cannot be written to its end, then half of them; where there is no limit it goes on."""
    campaign = whole(name)
    sizes = sorted(path.stat().st_size for path in campaign.whole.rglob("*") if path.is_file())
    folder = campaign.folder("limited")
    for limit in (sizes[-1] // 2, sizes[len(sizes) // 2]):
        code = forge.wait(forge.start(campaign.words(folder), folder, limit=limit), 200)
        _assert_refused(campaign, folder, code, errno.EFBIG)
    campaign.to_the_end(folder)


@pytest.mark.parametrize("name", ALL if MANY else FULL)
def test_a_disk_that_is_full(name, forge, whole, tmp_path, disk):
    """At a half and at four fifths of what the command writes; it goes on when there is room."""
    campaign = whole(name)
    size = sum(path.stat().st_size for path in campaign.whole.rglob("*") if path.is_file())
    folder = disk.folder / "full"
    folder.mkdir()
    for part in (0.5, 0.8):
        assert disk.mount(f"size={int(part * size) // 1024}k")
        code = forge.wait(forge.start(campaign.words(folder), folder), 200)
        _assert_refused(campaign, folder, code, errno.ENOSPC)
    assert disk.mount("size=64m")
    campaign.to_the_end(folder)


@pytest.mark.parametrize("name", ALL if MANY else READ_ONLY)
def test_a_disk_that_is_read_only(name, forge, world, tmp_path, disk):
    """Refused before anything is loaded."""
    (case,) = (case for case in kill_cases.cases(world) if case.name == name)
    words = Campaign(forge, tmp_path, case).words(tmp_path)
    words = [word if word != OUTPUT else str(disk.folder / OUTPUT) for word in words]
    assert disk.mount("ro")
    code = forge.wait(forge.start(words, tmp_path), 100)
    said = (tmp_path / "log.txt").read_text("utf-8")
    assert code == 2 and "is not writable" in said.strip().splitlines()[-1], said[-2000:]
