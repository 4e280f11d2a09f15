"""Kill a command at random moments, run it again until it ends, and compare with a run that nobody killed."""

import contextlib
import fnmatch
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Kills of each command; more by hand.
KILLS = int(os.environ.get("HF_REASON_KILLS", "1"))
SEED = 22
# What a command writes into; the same name in every run, so that cards and reports are the same.
OUTPUT = "out"
_FORGE = Path(__file__).with_name("forge.py")
_PATIENCE = 20.0


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        name: What it is called.
        words: The command line; `--output_dir out` is added.
        prepare: Makes what it reads in the folder in which it runs.
        varies: Files (patterns) whose bytes are not compared: times, pickles, what the run only works with.
        grows: Files that may stand there with less in them until the command has ended.
        keys: Names in JSON files whose values are times or speeds.
        alone: Run in an interpreter of its own, not in a fork.
        by_hand: Takes so long that one kill of each command leaves it out.
    """

    name: str
    words: Sequence[str]
    prepare: Callable[[Path], Sequence[str]] = lambda folder: ()
    varies: tuple[str, ...] = ()
    grows: tuple[str, ...] = ()
    keys: frozenset[str] = field(default_factory=frozenset)
    alone: bool = False
    by_hand: bool = False


class Forge:
    """Runs commands, see `forge.py`; a context manager."""

    def __enter__(self) -> "Forge":
        options: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, str(_FORGE)], **options)
        assert self._process.stdout is not None and self._process.stdout.readline() == "true\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        print(f"CPU seconds of all commands: {self.ask('cpu'):.0f}")
        self._process.stdin.close()
        self._process.wait(60)

    def ask(self, name: str, *arguments: Any) -> Any:
        """Call a method of the forge."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, arguments]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self, words: Sequence[str], folder: Path, alone: bool = False, log: str = "log.txt", **options: Any
    ) -> int:
        """Start a command in a folder, as the leader of a process group; what it says is added to a file there.

        `options` are those of a fork, see `forge.py`.
        """
        return int(self.ask("start", list(words), str(folder), str(folder / log), alone, options))

    def wait(self, pid: int, seconds: float) -> int | None:
        """The exit code; `None` if it still runs then."""
        deadline = time.monotonic() + seconds
        while (code := self.ask("code", pid)) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return code

    def kill(self, pid: int) -> None:
        """`kill -9` of the whole group, which leaves nobody."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        self.wait(pid, _PATIENCE)
        self.assert_nobody_left()

    def assert_nobody_left(self) -> None:
        """No process outlives its command by more than some seconds."""
        deadline = time.monotonic() + _PATIENCE
        while (left := self.ask("left")) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"outlived the command: {left}"


@dataclass
class Campaign:
    """Kills of one command.

    Attributes:
        forge: Runs it.
        place: A folder of its own.
        case: The command.
    """

    forge: Forge
    place: Path
    case: Case

    def run(self, kills: int) -> None:
        """Run it unbroken, then with so many kills, two at most before it is run to its end."""
        seconds = self.unbroken()
        self.kills: list[float] = []
        moments, landed, tries = self._moments(kills), 0, 0
        while landed < kills:
            folder, row = self.folder(f"round-{tries}"), 0
            while row < 2 and landed < kills:
                tries += 1
                assert tries <= 4 * kills + 4, f"{self.case.name} ended before it was killed, again and again"
                after = next(moments) * seconds
                if not self._killed(folder, after):
                    seconds *= 0.8  # some are faster than the first
                    break
                self.kills.append(after)
                landed, row = landed + 1, row + 1
                self.assert_nothing_half(folder / OUTPUT)
            self.to_the_end(folder)
            shutil.rmtree(folder)
        said = " ".join(f"{moment:.2f}" for moment in self.kills)
        print(f"{self.case.name}: unbroken in {seconds:.1f} s, killed after {said} s")

    def _moments(self, kills: int) -> Iterator[float]:
        """Parts of the unbroken run's time: one in each of `kills` parts of it, in random order."""
        draw = random.Random(f"{SEED} {self.case.name}")
        parts = [(number + draw.random()) / kills for number in range(kills)]
        draw.shuffle(parts)
        yield from parts
        while True:
            yield draw.random() * 0.8

    def folder(self, name: str) -> Path:
        """A new folder to run in."""
        folder = self.place / name
        folder.mkdir(parents=True)
        return folder

    def words(self, folder: Path) -> list[str]:
        """The command line; what it reads is written into the folder."""
        return [*self.case.words, *self.case.prepare(folder), "--output_dir", OUTPUT]

    def unbroken(self) -> float:
        """Run it to its end with nobody in its way; returns the seconds it took."""
        folder, begun = self.folder("whole"), time.monotonic()
        self._end(folder, self.words(folder))
        self.whole = folder / OUTPUT
        return time.monotonic() - begun

    def _end(self, folder: Path, words: Sequence[str]) -> None:
        code = self.forge.wait(self.forge.start(words, folder, self.case.alone), 300)
        assert code == 0, f"{self.case.name} ended with {code}: {(folder / 'log.txt').read_text()[-3000:]}"
        self.forge.assert_nobody_left()

    def _killed(self, folder: Path, after: float) -> bool:
        """Whether the kill came before the end."""
        pid = self.forge.start(self.words(folder), folder, self.case.alone)
        code = self.forge.wait(pid, after)
        self.forge.kill(pid)
        assert code in (None, 0), (folder / "log.txt").read_text()[-3000:]
        return code is None

    def to_the_end(self, folder: Path) -> None:
        """The same command again: it ends, and what it has written is what the unbroken run wrote."""
        self._end(folder, self.words(folder))
        left, right = (self._files(place) for place in (self.whole, folder / OUTPUT))
        assert left == right, f"{self.case.name}: other files: {sorted(left ^ right)}"
        for name in sorted(left):
            if not _like(name, self.case.varies):
                assert self._same(name, folder / OUTPUT), f"{self.case.name}: {name} is another one"

    def assert_nothing_half(self, output: Path) -> None:
        """Whatever can be read there is what stands there in the end."""
        known = self._files(self.whole)
        for name in self._files(output) & known:
            if not _like(name, (*self.case.varies, *self.case.grows)) and _can_be_read(output / name):
                assert self._same(name, output), f"{self.case.name}: {name} can be read, and is not whole"

    def _files(self, output: Path) -> set[str]:
        return {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}

    def _same(self, name: str, output: Path) -> bool:
        left, right = self.whole / name, output / name
        if left.name == "trainer_state.json":  # the rest is sums over the steps since a resume, and speeds
            one, other = (_losses(json.loads(path.read_text("utf-8"))) for path in (left, right))
            return bool(one == other)
        if left.suffix == ".json":
            one, other = (_without(json.loads(path.read_text("utf-8")), self.case.keys) for path in (left, right))
            return bool(one == other)
        if left.suffix == ".md":  # a card has the speed of a compressed model
            cards = [path.read_text("utf-8").splitlines() for path in (left, right)]
            one, other = ([line for line in card if "tokens/s" not in line] for card in cards)
            return bool(one == other)
        return left.read_bytes() == right.read_bytes()


def _losses(state: dict[str, Any]) -> dict[int, float]:
    """The loss of each step that was logged."""
    return {row["step"]: row["loss"] for row in state["log_history"] if "loss" in row}


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, names) for key, item in value.items() if key not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _can_be_read(path: Path) -> bool:
    """Whether a reader takes the file for a whole one."""
    try:
        match path.suffix:
            case ".json":
                json.loads(path.read_text("utf-8"))
            case ".jsonl":
                for line in path.read_text("utf-8").splitlines():
                    json.loads(line)
            case ".safetensors":
                from safetensors import safe_open

                with safe_open(path, "np") as file:
                    list(file.keys())
            case ".parquet":
                import pyarrow.parquet as parquet

                parquet.read_table(path)
            case ".arrow":
                import pyarrow as pa

                with pa.memory_map(str(path)) as source:
                    pa.ipc.open_stream(source).read_all()
            case _:
                return False
    except Exception:
        return False
    return True
