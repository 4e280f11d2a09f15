"""Whole numbers out of fractions."""

import math
from collections.abc import Sequence


def largest_remainders(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that sum to `total` (Hamilton's method; ties go to the first).

    Args:
        total: What the numbers sum to, 0 or more.
        weights: Not negative, not all 0.
    """
    whole = sum(weights)
    if math.isclose(whole, 1.0, rel_tol=1e-9):
        whole = 1.0  # fractions: their rounding must not decide between equal remainders
    exact = [total * weight / whole for weight in weights]
    counts = [int(value) for value in exact]
    order = sorted(range(len(counts)), key=lambda i: (counts[i] - exact[i], i))
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return counts
