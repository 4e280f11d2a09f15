"""What a trainer asks of a teacher, whatever it is made of."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import torch

from hf_reason.losses import LiveTargets, TopKTargets

# The columns of a batch that only the teacher or the loss reads, never the model.
# For each token that is a target: the row of the cache, and its place among the row's targets; -1 elsewhere.
TEACHER_ROWS, TEACHER_PLACES = TEACHER_COLUMNS = ("teacher_rows", "teacher_places")
# In the order of the fields of `TopKTargets`; the last two are there if the cache holds samples of the rest.
CACHED_COLUMNS = ("teacher_ids", "teacher_log_probs", "teacher_log_tail", "teacher_tail_ids", "teacher_tail_log_prob")
CACHED_SIMILARITIES = "teacher_similarities"


class Part(NamedTuple):
    """What some rows of a batch are compared with.

    Attributes:
        rows: `(batch,)` bool: which rows; `None`: all.
        targets: Of their scored positions, in the batch's order.
        vocab_size: Ids that this teacher and the student share.
    """

    rows: torch.Tensor | None
    targets: LiveTargets | TopKTargets
    vocab_size: int


class SeveralTargets(NamedTuple):
    """A batch whose rows have different teachers; each row is in one of the parts."""

    parts: list[Part]


class TeacherTargets(NamedTuple):
    """What the student is compared with.

    `divergence` is over the scored positions (those whose next token has a label), in the order of
    `states[:, :-1][labels[:, 1:] != -100]`. `similarities` is `(chains, steps, steps)`, in the order of
    `losses.step_vectors`; `None` where they were not asked for.
    """

    divergence: LiveTargets | TopKTargets | SeveralTargets
    similarities: torch.Tensor | None


class Teacher(Protocol):
    """A source of targets; `vocab_size` is the number of ids that it has in common with the student."""

    vocab_size: int

    def targets(
        self, batch: Mapping[str, torch.Tensor], *, path_consistency: bool
    ) -> AbstractContextManager[TeacherTargets]:
        """The targets of a batch, good while the context lasts.

        Args:
            batch: `input_ids`, `labels`, `step_ids` and what the collator added for the model.
            path_consistency: Whether the similarities between steps are wanted.
        """
        ...


def scored(labels: torch.Tensor) -> torch.Tensor:
    """`(batch, time - 1)`: where the next token has a label."""
    return labels[:, 1:] != -100
