"""Batches of similar length."""

from collections.abc import Iterator, Sequence

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
