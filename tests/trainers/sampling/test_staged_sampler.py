"""Domain ratios and curricula: counts, coverage, order, resume."""

from collections import Counter

import pytest

from hf_reason.trainers.sampling.curriculum import curriculum_stages
from hf_reason.trainers.sampling.staged import Stage, StagedSampler


def _two_domains(size=100, **options):
    big, small = tuple(range(90)), tuple(range(90, 100))
    return StagedSampler([Stage(0, ((big, 0.5), (small, 0.5)))], size, 10, **options)


def _epochs(sampler, count):
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def test_shares_are_met_exactly_and_everything_is_seen_evenly():
    epochs = _epochs(_two_domains(seed=3), 9)
    for order in epochs:
        assert len(order) == 100
        assert sum(index >= 90 for index in order) == 50
    seen = Counter(index for order in epochs for index in order)
    assert {seen[index] for index in range(90, 100)} == {45}
    # 450 draws from 90 examples: the passes go on over the epochs, so each comes five times
    assert {seen[index] for index in range(90)} == {5}
    assert epochs[0] != epochs[1]
    assert epochs == _epochs(_two_domains(seed=3), 9)
    assert epochs[0] != _epochs(_two_domains(seed=4), 1)[0]


def test_a_resumed_run_sees_the_epoch_it_stopped_in():
    whole = _epochs(_two_domains(seed=1), 4)
    resumed = _two_domains(seed=1)
    resumed.set_epoch(3)
    assert list(resumed) == whole[3]


def test_counts_sum_up_whatever_the_shares():
    groups = tuple((tuple(range(10 * i, 10 * i + 10)), share) for i, share in enumerate((0.337, 0.331, 0.332)))
    for size in (1, 2, 7, 99):
        order = list(StagedSampler([Stage(0, groups)], size, 4))
        assert len(order) == size
        counts = [sum(index // 10 == group for index in order) for group in range(3)]
        assert all(abs(count - size * share) < 1 for count, (_, share) in zip(counts, groups, strict=True))


def test_rounding_of_the_ratios_sum_decides_nothing():
    """0.6 + 0.3 + 0.1 is not quite 1 in floating point; the counts are those of the ratios themselves."""
    groups = tuple((tuple(range(10 * i, 10 * i + 10)), ratio) for i, ratio in enumerate((0.6, 0.3, 0.1)))
    order = list(StagedSampler([Stage(0, groups)], 4, 4))
    assert [sum(index // 10 == group for index in order) for group in range(3)] == [2, 1, 1]


def test_curriculum_goes_from_easy_to_all_and_changes_between_steps():
    difficulty = list(range(120))
    stages = curriculum_stages([(range(120), 1.0)], difficulty, stages=3, draws=90, batch_size=8)
    assert [stage.start for stage in stages] == [0, 32, 64]
    assert [len(stage.groups[0][0]) for stage in stages] == [40, 80, 120]
    epochs = _epochs(StagedSampler(stages, 120, 8, seed=0), 2)
    assert max(epochs[0][:32]) < 40 <= max(epochs[0][32:64]) < 80 <= max(epochs[0][64:])
    # the last stage's first pass over all examples goes on in the second epoch
    assert len(set(epochs[0][64:])) == 56
    assert Counter(epochs[0][64:] + epochs[1]).keys() == set(range(120))
    assert max(Counter(epochs[0][64:] + epochs[1]).values()) == 2


def test_curriculum_keeps_the_shares_of_the_domains():
    stages = curriculum_stages(
        [(range(60), 0.25), (range(60, 80), 0.75)], [i % 60 for i in range(80)], stages=2, draws=80, batch_size=4
    )
    order = list(StagedSampler(stages, 80, 4))
    assert sum(index >= 60 for index in order[:40]) == 30
    assert {index for index in order[:40] if index < 60} <= set(range(30))
    assert {index for index in order[:40] if index >= 60} == set(range(60, 70))


def test_stages_over_several_epochs():
    stages = curriculum_stages([(range(10), 1.0)], list(range(10)), stages=2, draws=30, batch_size=1)
    epochs = _epochs(StagedSampler(stages, 10, 1), 3)
    assert max(epochs[0]) == 4 and max(epochs[1][:5]) <= 4 and max(epochs[1][5:] + epochs[2]) == 9
    assert Counter(epochs[0]) == dict.fromkeys(range(5), 2)


def test_batches_of_similar_length_stay_inside_a_stage():
    lengths = [(index * 37) % 101 for index in range(200)]
    stages = curriculum_stages([(range(200), 1.0)], lengths, stages=2, draws=160, batch_size=10)
    order = list(StagedSampler(stages, 200, 10, lengths=lengths))
    spread = [
        max(lengths[i] for i in order[s : s + 10]) - min(lengths[i] for i in order[s : s + 10])
        for s in range(0, 80, 10)
    ]
    assert max(spread) < 20
    assert max(lengths[index] for index in order[:80]) <= sorted(lengths)[99]


@pytest.mark.parametrize("epoch", [0, 5])
def test_all_draws_of_an_epoch_come(epoch):
    sampler = _two_domains(size=33, seed=epoch)
    sampler.set_epoch(epoch)
    assert len(list(sampler)) == len(sampler) == 33
