"""Easy examples first."""

from collections.abc import Sequence

from .staged import Stage


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
        groups: `(examples, ratio)`, as in `Stage`.
        difficulty: Of each example; equal ones keep their order.
        stages: Number of stages, of equal length.
        draws: Draws over which they are spread; the last one stays after them.
        batch_size: Examples of an optimizer step; stages change between steps.
    """
    easiest = [sorted(indices, key=lambda i: difficulty[i]) for indices, _ in groups]
    found = []
    for number in range(stages):
        start = round(number * draws / stages / batch_size) * batch_size
        parts = [
            (tuple(order[: -(-len(order) * (number + 1) // stages)]), ratio)
            for order, (_, ratio) in zip(easiest, groups, strict=True)
        ]
        found.append(Stage(start, tuple(parts)))
    return found
