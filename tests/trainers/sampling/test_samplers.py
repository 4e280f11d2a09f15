"""Batches of similar length in a random, repeatable order."""

import random

from hf_reason.trainers.sampling.length_groups import LengthGroupedSampler


def _batches(sampler):
    order = list(sampler)
    return [order[i : i + sampler.batch_size] for i in range(0, len(order), sampler.batch_size)]


def test_every_example_once_and_another_order_each_epoch():
    lengths = [random.Random(0).randint(1, 100) for _ in range(1003)]
    sampler = LengthGroupedSampler(lengths, 8, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(1003))
    assert list(LengthGroupedSampler(lengths, 8, seed=3)) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert sorted(sampler) == sorted(first)


def test_batches_hold_similar_lengths():
    rng = random.Random(0)
    lengths = [rng.randint(10, 100) for _ in range(640)]
    padded = lambda batches: sum(len(b) * max(lengths[i] for i in b) for b in batches)  # noqa: E731
    grouped = padded(_batches(LengthGroupedSampler(lengths, 16)))
    arbitrary = padded([list(range(i, i + 16)) for i in range(0, 640, 16)])
    assert grouped < 1.1 * sum(lengths) < arbitrary


def test_long_and_short_batches_are_mixed():
    """Not from the longest to the shortest: neighbours in time must not have neighbouring lengths."""
    lengths = list(range(1, 641))
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in _batches(LengthGroupedSampler(lengths, 16))]
    rises = sum(b > a for a, b in zip(means, means[1:], strict=False))
    assert 0.25 * len(means) < rises < 0.75 * len(means)
