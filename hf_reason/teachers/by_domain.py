"""Several teachers, of which each record's domain chooses one."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from hf_reason.data.record import DOMAINS
from hf_reason.text.spans import DOMAIN_IDS

from .base import Part, SeveralTargets, Teacher, TeacherTargets
from .errors import TeacherError

# The key of the teacher for all domains that have none of their own.
DEFAULT = "default"
_NAMES = (*DOMAINS, "other")  # in the order of the numbers in the column `domain_ids`
KEYS = (*_NAMES, DEFAULT)


def without_teacher(domains: Iterable[str | None], keys: Iterable[str]) -> list[str]:
    """Which of these domains have no teacher, sorted; a domain that is not known counts as `other`."""
    known = set(keys)
    if DEFAULT in known:
        return []
    found = {name if name in DOMAINS else "other" for name in domains}
    return sorted(found - known)


class DomainTeachers:
    """Each row of a batch is compared with the teacher of its domain. No teacher reads another one's rows.

    Args:
        teachers: Domain (or `default`) -> teacher. One teacher may stand under several.
    """

    def __init__(self, teachers: Mapping[str, Teacher]) -> None:
        self.teachers = dict(teachers)
        self.vocab_size = min(teacher.vocab_size for teacher in self.teachers.values())

    @property
    def each(self) -> list[Teacher]:
        """The teachers, each once."""
        return list({id(teacher): teacher for teacher in self.teachers.values()}.values())

    @contextmanager
    def targets(self, batch: Mapping[str, torch.Tensor], *, path_consistency: bool) -> Iterator[TeacherTargets]:
        """See `Teacher.targets`; the batch has one example a row, and the column `domain_ids`.

        Raises:
            TeacherError: if the batch has no domains, or one without a teacher.
        """
        if DOMAIN_IDS not in batch:
            raise TeacherError(
                "Several teachers are chosen by the domain of a record, and the data set has none. Give records "
                "(hf-reason prepare), or one teacher."
            )
        names = [_NAMES[number] for number in batch[DOMAIN_IDS][:, 0].tolist()]
        missing = without_teacher(names, self.teachers)
        if missing:
            raise TeacherError(no_teacher(missing, "batch"))
        chosen = [id(self.teachers.get(name, self.teachers.get(DEFAULT))) for name in names]
        device = batch["labels"].device
        parts, similarities = [], []
        with ExitStack() as stack:
            for teacher in self.each:
                rows = torch.tensor([one == id(teacher) for one in chosen], device=device)
                if not rows.any():
                    continue
                own = {name: value[rows] for name, value in batch.items() if _has_rows(value, len(names))}
                found = stack.enter_context(teacher.targets(own, path_consistency=path_consistency))
                assert not isinstance(found.divergence, SeveralTargets)
                parts.append(Part(rows, found.divergence, teacher.vocab_size))
                similarities.append(found.similarities)
            together = _in_order(batch["step_ids"], parts, similarities) if path_consistency else None
            yield TeacherTargets(SeveralTargets(parts), together)


def no_teacher(missing: Iterable[str], where: str) -> str:
    """The message about domains without a teacher."""
    names = ", ".join(missing)
    return (
        f"There is no teacher for the domain {names} of the {where}. Add one under its name, or one for all others "
        f"under {DEFAULT!r}."
    )


def _has_rows(value: object, count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == count


def _in_order(step_ids: torch.Tensor, parts: list[Part], found: list[torch.Tensor | None]) -> torch.Tensor:
    """The similarities of all chains, in the order of their rows."""
    has_chain = (step_ids > 0).any(dim=1)
    place = has_chain.cumsum(0) - 1
    blocks = [block for block in found if block is not None]
    most = max(block.shape[1] for block in blocks)
    whole = blocks[0].new_zeros(int(has_chain.sum()), most, most)
    for part, block in zip(parts, blocks, strict=True):
        assert part.rows is not None
        whole[place[part.rows & has_chain], : block.shape[1], : block.shape[1]] = block.to(whole)
    return whole
