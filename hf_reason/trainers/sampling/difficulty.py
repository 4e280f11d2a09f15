"""Problems that a model always or never solves, whose groups teach nothing: left out for a while, or altogether."""

import json
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from trl.trainer.utils import RepeatSampler

logger = logging.getLogger(__name__)


class SettledProblems:
    """Problems whose last groups were all right or all wrong.

    After n such groups in a row a problem is left out of the next n epochs, and then tried again. Which ones are left
    out is fixed when an epoch begins, so that a resumed run reads the same order.

    Args:
        active: Whether any is left out; else they are only counted.
    """

    def __init__(self, active: bool):
        self.active = active
        self.epoch = -1
        self.skipped: frozenset[int] = frozenset()
        # row -> whether its last groups were right, how many in a row, and the first epoch that has it again
        self._streaks: dict[int, tuple[bool, int, int]] = {}

    def note(self, row: int, solved: Collection[bool | None], epoch: int) -> None:
        """Add a group: whether each of its completions solved the problem (`None`: undecided)."""
        verdicts = set(solved)
        if verdicts not in ({True}, {False}):
            self._streaks.pop(row, None)
            return
        (right,) = verdicts
        before = self._streaks.get(row)
        streak = before[1] + 1 if before is not None and before[0] == right else 1
        self._streaks[row] = (bool(right), streak, epoch + 1 + streak)

    def at(self, epoch: int) -> frozenset[int]:
        """The rows that are left out of an epoch; asked again in the same epoch, the same ones."""
        if epoch != self.epoch:
            self.epoch = epoch
            due = (row for row, (_, _, back) in self._streaks.items() if back > epoch)
            self.skipped = frozenset(due) if self.active else frozenset()
            if self.skipped:
                logger.warning("Epoch %d leaves out %d problems that are settled.", epoch, len(self.skipped))
        return self.skipped

    def counts(self) -> tuple[int, int]:
        """Problems whose last groups were all right, and all wrong."""
        right = sum(right for right, _, _ in self._streaks.values())
        return right, len(self._streaks) - right

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        streaks = [[row, *values] for row, values in sorted(self._streaks.items())]
        return {"epoch": self.epoch, "skipped": sorted(self.skipped), "streaks": streaks}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.epoch, self.skipped = state["epoch"], frozenset(state["skipped"])
        self._streaks = {row: (right, count, back) for row, right, count, back in state["streaks"]}


class ProblemSampler(RepeatSampler):
    """TRL's sampler, in the same order, that knows its epoch when a run is resumed and leaves out problems.

    The places of problems that are left out go to others, so that every epoch has TRL's length.

    Args:
        epoch: Gives the number of the epoch that begins.
        skipped: Gives the rows that an epoch leaves out.
        *args: `RepeatSampler`'s, and so are `kwargs`.
    """

    def __init__(self, epoch: Callable[[], int], skipped: Callable[[int], Collection[int]], *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._epoch, self._skipped = epoch, skipped

    def __iter__(self) -> Iterator[int]:
        epoch = self._epoch()
        order: list[int] = list(range(self.num_samples))
        draw = torch.Generator()
        if self.shuffle:
            draw.manual_seed(0 if self.seed is None else self.seed)
            for _ in range(epoch + 1):
                order = torch.randperm(self.num_samples, generator=draw).tolist()
        whole = self.num_samples // self.batch_size * self.batch_size
        rows = self._filled(order, self._skipped(epoch), draw)[:whole]
        for start in range(0, whole, self.batch_size):
            for _ in range(self.repeat_count):
                for row in rows[start : start + self.batch_size]:
                    yield from [row] * self.mini_repeat_count

    def _filled(self, order: list[int], skipped: Collection[int], draw: torch.Generator) -> list[int]:
        kept = [row for row in order if row not in skipped]
        if len(kept) == len(order) or not kept:
            return order
        rows = list(kept)
        while len(rows) < len(order):
            again = torch.randperm(len(kept), generator=draw).tolist() if self.shuffle else range(len(kept))
            rows += [kept[place] for place in again]
        return rows


def solve_rates(path: str | os.PathLike[str]) -> dict[str, float]:
    """The fraction of right samples of each record, by its id, from an evaluation with several samples.

    Traces that were made of a sample have the rate of their problem, by their own ids.

    Args:
        path: `predictions.jsonl` of `hf-reason evaluate` or `hf-reason generate-traces`, or the folder with it.

    Raises:
        ValueError: if there is no such file, it is another one, or it has one sample of each record.
    """
    file = Path(path, "predictions.jsonl") if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise ValueError(
            f"difficulty_from: there is no file {file}. Make it with hf-reason evaluate --split train --num_samples 8 "
            "--output_dir FOLDER."
        )
    verdicts: dict[tuple[str, str], list[bool]] = defaultdict(list)
    traces: dict[str, str] = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                if row["correct"] is not None:
                    verdicts[str(row.get("model")), str(row["id"])].append(bool(row["correct"]))
                if row.get("trace") is not None:
                    traces[row["trace"]] = str(row["id"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"difficulty_from: line {number} of {file} is no prediction of an evaluation."
                ) from error
    if len({model for model, _ in verdicts}) > 1:
        raise ValueError(f"difficulty_from: {file} has predictions of several models. Evaluate the one to be trained.")
    if verdicts and max(map(len, verdicts.values())) < 2:
        raise ValueError(
            f"difficulty_from: {file} has one sample of each problem, which says nothing about always and never. "
            "Evaluate with --num_samples 8."
        )
    rates = {name: sum(found) / len(found) for (_, name), found in verdicts.items()}
    return {trace: rates[name] for trace, name in traces.items() if name in rates} | rates


def check_rates(records: Any, rates: Mapping[str, float]) -> None:
    """Refuse pass rates of other problems, and say how many records have none.

    Raises:
        ValueError: if no record has one.
    """
    names = list(records["id"]) if "id" in (records.column_names or []) else []
    known = sum(name in rates for name in names)
    if not known:
        raise ValueError(
            f"difficulty_from: none of its {len(rates)} pass rates is of a record of the training set, which are told "
            "by their ids. Give the folder in which these traces were generated, or evaluate on the training split."
        )
    if known < len(names):
        logger.warning("difficulty_from: %d of %d records have no pass rate.", len(names) - known, len(names))


def by_difficulty(ids: Iterable[str], rates: dict[str, float]) -> tuple[list[int], int, int]:
    """The rows that are sometimes solved or unknown, and how many are always and never solved.

    Raises:
        ValueError: if no row is left.
    """
    kept, always, never = [], 0, 0
    for row, name in enumerate(ids):
        rate = rates.get(name, 0.5)
        always, never = always + (rate == 1), never + (rate == 0)
        if 0 < rate < 1:
            kept.append(row)
    if not kept:
        raise ValueError(
            f"difficulty_from leaves no problem: {always} are always solved and {never} never. Train on other "
            "problems, or on a model between the two."
        )
    return kept, always, never
