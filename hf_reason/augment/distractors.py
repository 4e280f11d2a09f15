"""Records with a distractor: the same task, steps and answer, one more sentence in the problem."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hf_reason.data.synthetic.distractors import KINDS, TEMPLATES, distract

from .operation import Made, check_fraction


class Distractors:
    """Copies of records with a sentence that the answer does not need (`hf_reason.data.synthetic.distractors`).

    Args:
        fraction: Of the training records.
        templates: `train`, or `test`: the sentences of evaluation, which no training should see.
        kinds: `irrelevant` numbers, `wrong` ones, or both.

    Raises:
        ValueError: for a value out of range.
    """

    name, file = "distractors", ""

    def __init__(self, fraction: float = 0.5, *, templates: str = "train", kinds: Sequence[str] = KINDS) -> None:
        self.fraction = check_fraction("distractors", fraction)
        for what, given, known in (("templates", [templates], TEMPLATES), ("kinds", kinds, KINDS)):
            if not given or not set(given) <= set(known):
                raise ValueError(f"distractor_{what}: {', '.join(given) or 'nothing'} is not in {', '.join(known)}.")
        self.templates, self.kinds = templates, sorted(set(kinds))

    def settings(self) -> dict[str, Any]:
        """What shapes its rows."""
        return {"templates": self.templates, "kinds": self.kinds}

    def prepare(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Nothing takes long."""

    def apply(self, record: Mapping[str, Any], seed: int) -> list[Made] | str:
        """The copy; why there is none."""
        if not record["context"].strip():
            return "no context"
        found = distract(record, seed, templates=self.templates, kinds=self.kinds)
        return [Made(found.record, f"{found.kind}: {found.sentence}")]
