"""The order in which records are trained on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Sampler

# Batches formed from one shuffled pool: the more, the less padding and the less random their make-up.
_BATCHES_IN_POOL = 40


class LengthGroupedSampler(Sampler[int]):
    """Batches of similar length, in random order.

    transformers' sampler of that name also groups by length, but hands out each group of 50 batches from the longest
    to the shortest. A chain's length is its number of steps, so training swings between long and short problems 24
    times in 1,200 steps, and ends on the short ones; here the batches are shuffled.

    The order depends on the seed and the epoch alone, so a resumed run and all processes see the same one.

    Args:
        lengths: Length of each example.
        batch_size: Examples in a step of all processes (one forward pass each).
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int = 0):
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        yield from grouped_by_length(order, self.lengths, self.batch_size, generator)


def grouped_by_length(
    order: Sequence[int], lengths: Sequence[int], batch_size: int, generator: torch.Generator
) -> Iterator[int]:
    """The examples of `order` in batches of similar length; the batches are shuffled by `generator`."""
    pool = batch_size * _BATCHES_IN_POOL
    for start in range(0, len(order), pool):
        chosen = sorted(order[start : start + pool], key=lambda index: lengths[index])
        batches = [chosen[i : i + batch_size] for i in range(0, len(chosen), batch_size)]
        # A short last batch stays last: moved forward it would shift the borders of all that follow.
        last = [batches.pop()] if len(batches[-1]) < batch_size else []
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        for batch in shuffled + last:
            yield from batch


@dataclass(frozen=True)
class Stage:
    """A part of a run: from the draw `start` on, examples come from these groups.

    Attributes:
        start: Number of draws before it.
        groups: `(examples, share)`; the shares sum to 1.
    """

    start: int
    groups: tuple[tuple[tuple[int, ...], float], ...]


class StagedSampler(Sampler[int]):
    """Examples by domain shares and in the stages of a curriculum.

    A stage goes through each of its groups in permutations, one after the other, as often as the group's share asks
    for: a small group comes several times, a large one goes on in the next epoch where it stopped. The number of draws
    from a group is its share exactly (rounded by largest remainders), not a random one. The order depends on the seed
    and the epoch alone, so a resumed run and all processes see the same one.

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
        digest = hashlib.blake2b(repr((self.seed, *key)).encode(), digest_size=7).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "big"))

    def __iter__(self) -> Iterator[int]:
        used = {(s, g): 0 for s, stage in enumerate(self.stages) for g in range(len(stage.groups))}
        for epoch in range(self.epoch + 1):
            for number, draws in self._segments(epoch):
                found: list[int] = []
                for group, count in enumerate(_split(draws, [share for _, share in self.stages[number].groups])):
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


def _split(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the shares that sum to `total` (largest remainders)."""
    exact = [total * share for share in shares]
    counts = [int(value) for value in exact]
    order = sorted(range(len(shares)), key=lambda i: (counts[i] - exact[i], i))
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return counts


def curriculum_stages(
    groups: Sequence[tuple[Sequence[int], float]],
    difficulty: Sequence[float],
    *,
    stages: int,
    draws: int,
    batch_size: int,
) -> list[Stage]:
    """Easy first: stage k of n draws from the easiest k / n of each group ("baby steps", Spitkovsky et al. 2010).

    Args:
        groups: `(examples, share)`, as in `Stage`.
        difficulty: Of each example; equal ones keep their order.
        stages: Number of stages, of equal length.
        draws: Draws over which they are spread; the last one goes on after them.
        batch_size: Examples of an optimizer step; stages change between steps.
    """
    easiest = [sorted(indices, key=lambda i: difficulty[i]) for indices, _ in groups]
    found = []
    for number in range(stages):
        start = round(number * draws / stages / batch_size) * batch_size
        parts = [
            (tuple(order[: -(-len(order) * (number + 1) // stages)]), share)
            for order, (_, share) in zip(easiest, groups, strict=True)
        ]
        found.append(Stage(start, tuple(parts)))
    return found
