"""The always-valid test: its formula, its error rate while it is looked at all the time, and its power."""

import math

import numpy as np
import pytest

from hf_reason.serving.sequential import SequentialTest, confidence_sequence, difference_sequence, simulate


def plain_log_e(arms: list[int], outcomes: list[int], fraction: float) -> list[float]:
    """The formula, one outcome at a time."""
    differences = [sign * size for sign in (1, -1) for size in (0.02, 0.04, 0.08, 0.16, 0.32)]
    product, path = dict.fromkeys(differences, 1.0), []
    for number, (arm, outcome) in enumerate(zip(arms, outcomes, strict=True)):
        m = min(max((sum(outcomes[:number]) + 0.5) / (number + 1), 0.002), 0.998)
        for d in differences:
            cut = d
            for step in range(1, 40):  # by bisection: as much of d as leaves both rates possible
                possible = all(0.001 <= rate <= 0.999 for rate in (m - fraction * cut, m + (1 - fraction) * cut))
                if step == 1 and possible:
                    break
                cut += (1 if possible else -1) * d * 0.5**step
            rate = m + (1 - fraction) * cut if arm else m - fraction * cut
            product[d] *= (rate if outcome else 1 - rate) / (m if outcome else 1 - m)
        path.append(math.log(sum(product.values()) / len(product)))
    return path


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_the_formula(fraction):
    random = np.random.default_rng(0)
    arms, outcomes = random.random(60) < fraction, random.random(60) < 0.8
    expected = plain_log_e(arms.tolist(), outcomes.astype(int).tolist(), fraction)
    whole = SequentialTest(fraction).extend(arms, outcomes)[0]
    np.testing.assert_allclose(whole, expected, atol=1e-8)
    # in pieces, with empty ones, it is the same
    test = SequentialTest(fraction)
    pieces = [test.extend(arms[a:b], outcomes[a:b])[0] for a, b in ((0, 1), (1, 1), (1, 17), (17, 60))]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("fraction", [0.5, 0.05])
def test_each_factor_is_fair_whatever_the_rate(rate, fraction):
    """Expected factor 1 for each history: over both arms and both outcomes, weighted by their probabilities."""
    random = np.random.default_rng(1)
    for length in (0, 1, 3, 40):
        arms, outcomes = random.random(length) < fraction, random.random(length) < random.random()
        expected = 0.0
        for arm, chance in ((True, fraction), (False, 1 - fraction)):
            for outcome, likely in ((1, rate), (0, 1 - rate)):
                path = SequentialTest(fraction).extend(np.append(arms, arm), np.append(outcomes, outcome))[0]
                expected += chance * likely * math.exp(path[-1])
        before = SequentialTest(fraction).extend(arms, outcomes)[0]
        assert expected == pytest.approx(math.exp(before[-1]) if length else 1.0, rel=1e-9)


def test_arms_and_labels_can_be_swapped():
    random = np.random.default_rng(2)
    arms, outcomes = random.random(200) < 0.3, random.random(200) < 0.6
    path = SequentialTest(0.3).extend(arms, outcomes)
    np.testing.assert_allclose(SequentialTest(0.7).extend(~arms, outcomes), path, atol=1e-12)
    np.testing.assert_allclose(SequentialTest(0.3).extend(arms, ~outcomes), path, atol=1e-12)


def test_no_difference_is_rarely_found():
    """Fast: 300 runs; binomial(300, 0.05) exceeds 29 with a probability below 0.0003."""
    assert simulate(0.6, 0.6, runs=300, max_outcomes=500).decided <= 29 / 300


def test_differences_are_found():
    found = simulate(0.5, 0.7, runs=100, max_outcomes=1500)
    assert found.decided == 1.0 and found.mean_outcomes < 320
    assert found.quantiles[0] < found.mean_outcomes * 1.2 and found.quantiles[1] < 600
    assert simulate(0.7, 0.5, runs=100, max_outcomes=1500).decided == 1.0
    none = simulate(0.5, 0.5, runs=20, max_outcomes=50)
    assert none.quantiles[1] is None and none.mean_outcomes > 45


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "fraction"), [(0.5, 0.5), (0.9, 0.5), (0.5, 0.1), (0.1, 0.9)])
def test_the_error_rate_holds(rate, fraction):
    """2,000 runs of 3,000 outcomes, looked at after each: at most 5%, plus what chance allows 2,000 runs."""
    found = simulate(rate, rate, fraction=fraction, runs=2000, max_outcomes=3000, seed=7)
    assert found.decided <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    # a fixed test looked at all the time would be wrong far more often, and one that never decides is no test
    assert found.decided > 0.005


@pytest.mark.slow
def test_the_intervals_hold_at_all_times():
    random = np.random.default_rng(3)
    missed = [0, 0]
    for _ in range(100):
        arms, draws = random.random(400) < 0.3, random.random(400)
        outcomes = draws < np.where(arms, 0.75, 0.6)
        counts = np.zeros((2, 2), int)
        wrong = [False, False]
        for number, (arm, outcome) in enumerate(zip(arms.astype(int), outcomes.astype(int), strict=True)):
            counts[arm] += (outcome, 1)
            if number % 20:  # an interval moves little in between
                continue
            low, high = confidence_sequence(int(counts[0, 0]), int(counts[0, 1]))
            wrong[0] |= not low <= 0.6 <= high
            low, high = difference_sequence(tuple(counts[:, 0].tolist()), tuple(counts[:, 1].tolist()))
            wrong[1] |= not low <= 0.15 <= high
        missed = [count + now for count, now in zip(missed, wrong, strict=True)]
    assert max(missed) <= 13  # binomial(100, 0.05) exceeds 13 with a probability below 0.001


def test_intervals():
    assert confidence_sequence(0, 0) == (0.0, 1.0)
    low, high = confidence_sequence(0, 50)
    assert low == 0.0 and 0.05 < high < 0.2
    assert confidence_sequence(50, 50) == pytest.approx((1 - high, 1.0))
    wide, narrow = confidence_sequence(50, 100), confidence_sequence(5000, 10000)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    # wider than the interval for one look (Wald: 40.2-59.8%)
    assert wide[0] < 0.402 and wide[1] > 0.598
    assert confidence_sequence(50, 100, alpha=0.01)[0] < wide[0]
    with pytest.raises(ValueError, match="7 successes of 5 outcomes"):
        confidence_sequence(7, 5)

    assert difference_sequence((0, 0), (0, 0)) == (-1.0, 1.0)
    low, high = difference_sequence((30, 60), (100, 100))
    assert 0 < low < 0.3 < high
    assert difference_sequence((60, 30), (100, 100)) == pytest.approx((-high, -low), abs=1e-3)
    # narrower than two intervals at half of alpha put together
    a, b = confidence_sequence(30, 100, 0.025), confidence_sequence(60, 100, 0.025)
    assert low > b[0] - a[1] and high < b[1] - a[0]
    # the ends belong to a pair on the edge of the region, found by a search over all pairs
    grid = np.linspace(0.0005, 0.9995, 800)
    from hf_reason.serving.sequential import _log_ratio

    inside = _log_ratio(grid, 30, 100)[:, None] + _log_ratio(grid, 60, 100)[None] < -math.log(0.05)
    differences = (grid[None] - grid[:, None])[inside]
    assert (low, high) == pytest.approx((differences.min(), differences.max()), abs=3e-3)


def test_bad_input():
    for fraction in (0.0, 1.0, -1, 2):
        with pytest.raises(ValueError, match="fraction must be between 0 and 1"):
            SequentialTest(fraction)
    with pytest.raises(ValueError, match="same shape"):
        SequentialTest().extend(np.zeros(3), np.zeros(4))
    with pytest.raises(ValueError, match="outcomes be 0 or 1"):
        SequentialTest().extend(np.zeros(3), np.array([0, 1, 2]))
