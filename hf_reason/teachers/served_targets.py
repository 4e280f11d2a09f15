"""Targets of a batch from a served teacher."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from hf_reason.losses import TopKTargets

from .base import TeacherTargets, scored
from .errors import TeacherError
from .served import ServedTeacher, TopK


class ServedTargets:
    """`ServedTeacher` as a `Teacher`.

    Args:
        server: The client.
        vocab_size: Number of ids that teacher and student share.
    """

    def __init__(self, server: ServedTeacher, vocab_size: int) -> None:
        self.server, self.vocab_size = server, vocab_size

    @contextmanager
    def targets(self, batch: Mapping[str, torch.Tensor], *, path: bool) -> Iterator[TeacherTargets]:
        """See `Teacher.targets`; there is no path, since a server gives no hidden states."""
        if path:
            raise TeacherError("A served teacher gives no hidden states: set path_weight=0, or use a live teacher.")
        labels, places = batch["labels"], _sequences(batch)
        found = self.server.top_k([batch["input_ids"][row, start:end].tolist() for row, start, end in places])
        ids, log_probs, log_tail = (_scatter(found, places, labels, field) for field in TopK._fields)
        yield TeacherTargets(TopKTargets(ids, log_probs, log_tail), None)


def _sequences(batch: Mapping[str, torch.Tensor]) -> list[tuple[int, int, int]]:
    """`(row, first, end)` of every example of a padded or packed batch."""
    places = []
    for row in range(batch["input_ids"].shape[0]):
        if "attention_mask" in batch:
            length = int(batch["attention_mask"][row].sum())
            places.append((row, 0, length))
        else:
            starts = [*(batch["position_ids"][row] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
            places += [(row, start, end) for start, end in zip(starts[:-1], starts[1:], strict=True)]
    return places


def _scatter(found: list[TopK], places: list[tuple[int, int, int]], labels: torch.Tensor, field: str) -> torch.Tensor:
    """One field of the answers at the scored positions, in the batch's order."""
    first = getattr(found[0], field)
    whole = np.zeros((*labels.shape, *first.shape[1:]), dtype=first.dtype)
    for (row, start, end), answer in zip(places, found, strict=True):
        whole[row, start : end - 1] = getattr(answer, field)
    return torch.from_numpy(whole)[:, :-1].to(labels.device)[scored(labels)]
