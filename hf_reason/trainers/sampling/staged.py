"""The order of a run whose examples come from groups (domains) and in stages (a curriculum)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

from hf_reason._files import digest
from hf_reason._numbers import largest_remainders

from .length_groups import grouped_by_length


@dataclass(frozen=True)
class Stage:
    """A part of a run: from the draw `start` on, examples come from these groups.

    Attributes:
        start: Number of draws before it.
        groups: `(examples, ratio)`; the ratios sum to 1.
    """

    start: int
    groups: tuple[tuple[tuple[int, ...], float], ...]


class StagedSampler(Sampler[int]):
    """Examples by domain ratios and in the stages of a curriculum.

    A stage walks through each of its groups in permutations, one after the other, as often as the group's ratio asks
    for: a small group comes several times, a large one continues in the next epoch where it stopped. The number of
    draws from a group is exact (rounded by largest remainders), not random. The order depends on the seed and the
    epoch alone, so a resumed run and all processes see the same one.

    Args:
        stages: By their `start`, the first at 0.
        size: Draws of an epoch.
        batch_size: Examples in a step of all processes, for batches of similar length.
        seed: Seed of the order.
        lengths: Length of each example; given, batches are formed as in `LengthGroupedSampler`.
    """

    def __init__(
        self, stages: Sequence[Stage], size: int, batch_size: int, seed: int = 0, lengths: Sequence[int] | None = None
    ):
        self.stages, self.size, self.batch_size, self.seed = list(stages), size, batch_size, seed
        self.lengths, self.epoch = lengths, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def _segments(self, epoch: int) -> Iterator[tuple[int, int]]:
        """`(stage, draws)` of an epoch, in order."""
        first, last = epoch * self.size, (epoch + 1) * self.size
        ends = [stage.start for stage in self.stages[1:]] + [max(last, self.stages[-1].start)]
        for number, (stage, end) in enumerate(zip(self.stages, ends, strict=True)):
            draws = min(last, end) - max(first, stage.start)
            if draws > 0:
                yield number, draws

    def _stream(self, stage: int, group: int, start: int, draws: int) -> list[int]:
        """Some of the endless row of permutations of a group."""
        pool, found = self.stages[stage].groups[group][0], []
        while draws > 0:
            turn, place = divmod(start, len(pool))
            order = torch.randperm(len(pool), generator=self._generator(stage, group, turn))
            taken = order[place : place + draws].tolist()
            found += [pool[index] for index in taken]
            start, draws = start + len(taken), draws - len(taken)
        return found

    def _generator(self, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(int(digest(repr((self.seed, *key)), size=7), 16))

    def __iter__(self) -> Iterator[int]:
        used = {(s, g): 0 for s, stage in enumerate(self.stages) for g in range(len(stage.groups))}
        for epoch in range(self.epoch + 1):
            for number, draws in self._segments(epoch):
                found: list[int] = []
                counts = largest_remainders(draws, [ratio for _, ratio in self.stages[number].groups])
                for group, count in enumerate(counts):
                    if epoch == self.epoch:
                        found += self._stream(number, group, used[number, group], count)
                    used[number, group] += count
                if epoch < self.epoch:
                    continue
                generator = self._generator(-1, epoch, number)
                mixed = [found[i] for i in torch.randperm(len(found), generator=generator).tolist()]
                if self.lengths is not None:
                    mixed = list(grouped_by_length(mixed, self.lengths, self.batch_size, generator))
                yield from mixed
