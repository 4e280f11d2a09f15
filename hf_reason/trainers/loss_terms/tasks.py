"""Several tasks in one run: a weight for each, and for classifications the cross-entropy over their labels only.

A record's task is what its `task` field says. A classification's answer is one of its labels; the labels' tokens form
a tree, and where it branches the loss compares the branches only (`hf_reason.losses.choice_log_probs`). The product
over the branchings is the label's probability under decoding that is constrained to the labels. All other tokens (the
thought, the rest of a label's word, the end of turn) have the token loss, so that the model also writes what it
chose.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_reason.text.spans import ANSWER, CHOICE_IDS, TASK_IDS, encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("generation", "classification")
_FIELDS = ("kind", "labels", "weight")


@dataclass(frozen=True)
class TaskLoss:
    """How one task is trained.

    Attributes:
        kind: `"generation"` or `"classification"`.
        labels: The answers that a classification may have.
        weight: Factor of the weights of the task's tokens.
    """

    kind: str = "generation"
    labels: tuple[str, ...] = ()
    weight: float = 1.0


def parse_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, TaskLoss]:
    """The `tasks` of a configuration, checked.

    Raises:
        ValueError: for an unknown field or kind, a weight below 0, or labels that are missing or double.
    """
    parsed = {}
    for name, fields in tasks.items():
        if not isinstance(fields, Mapping) or set(fields) - set(_FIELDS):
            raise ValueError(f"tasks: {name!r} must have the fields {', '.join(_FIELDS)}, got {fields!r}.")
        loss = TaskLoss(
            str(fields.get("kind", "generation")),
            tuple(map(str, fields.get("labels", ()))),
            float(fields.get("weight", 1.0)),
        )
        if loss.kind not in KINDS:
            raise ValueError(f"tasks: {name!r} has the kind {loss.kind!r}; choose {' or '.join(KINDS)}.")
        if loss.weight < 0:
            raise ValueError(f"tasks: the weight of {name!r} must not be negative, got {loss.weight}.")
        if (loss.kind == "classification") != (len(loss.labels) > 1) or len(set(loss.labels)) < len(loss.labels):
            raise ValueError(
                f"tasks: {name!r} is a {loss.kind} with the labels {list(loss.labels)}. A classification has two or "
                "more different ones, a generation none."
            )
        parsed[name] = loss
    if parsed and not any(loss.weight > 0 for loss in parsed.values()):
        raise ValueError("tasks: every weight is 0. Set one above 0.")
    return parsed


class TaskTable:
    """The tasks of a run as numbers: two columns with one value a token, and what they mean.

    Args:
        tasks: From `parse_tasks`. Records of a task that is not named are generations of weight 1.
        tokenizer: The model's.
        instructions: As in `encode`.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskLoss],
        tokenizer: "PreTrainedTokenizerBase",
        instructions: Mapping[str, str] | None = None,
    ):
        self.tasks, self.tokenizer, self.instructions = dict(tasks), tokenizer, instructions
        self._numbers = {name: number for number, name in enumerate(tasks, start=1)}
        self._branches: dict[tuple[int, ...], int] = {}
        # all sets are made here, so that the processes of a parallel `map` give them the same numbers
        self._labels = {
            (name, thinking): self._label_tokens(name, thinking)
            for name, loss in self.tasks.items()
            if loss.kind == "classification"
            for thinking in (True, False)
        }

    @property
    def weights(self) -> list[float]:
        """Weight of each task id; 0 is the task that is not named."""
        return [1.0, *(loss.weight for loss in self.tasks.values())]

    @property
    def choices(self) -> list[list[int]]:
        """Allowed tokens of each choice id, -1 for none; 0 stands for the whole vocabulary."""
        most = max(map(len, self._branches), default=1)
        return [[-1] * most, *([*branch, *[-1] * (most - len(branch))] for branch in self._branches)]

    def _label_tokens(self, name: str, thinking: bool) -> dict[tuple[int, ...], list[int]]:
        """The answer's tokens of each label -> the choice id of each of them."""
        found: dict[str, tuple[int, ...]] = {}
        for label in self.tasks[name].labels:
            record = {"context": "x", "task": name, "steps": ["x"] if thinking else [], "answer": label}
            found[label] = tuple(_answer(encode(record, self.tokenizer, instructions=self.instructions)))
        if len(set(found.values())) < len(found):
            raise ValueError(
                f"tasks: the tokenizer gives two labels of {name!r} the same tokens ({list(found)}). Rename one."
            )
        return {tokens: self._choice_ids(tokens, found.values()) for tokens in found.values()}

    def _choice_ids(self, tokens: tuple[int, ...], labels: Iterable[tuple[int, ...]]) -> list[int]:
        ids = []
        for depth in range(len(tokens)):
            same = [label for label in labels if label[:depth] == tokens[:depth] and len(label) > depth]
            branch = tuple(sorted({label[depth] for label in same}))
            ids.append(self._branches.setdefault(branch, len(self._branches) + 1) if len(branch) > 1 else 0)
        return ids

    def columns(self, record: Mapping[str, Any], encoded: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """`task_ids` and `choice_ids` of a record's tokens.

        Raises:
            ValueError: if a classification's answer is not one of its labels.
        """
        name = record.get("task") or ""
        length = len(encoded["input_ids"])
        columns = {TASK_IDS: [self._numbers.get(name, 0)] * length, CHOICE_IDS: [0] * length}
        if self.tasks.get(name, TaskLoss()).kind == "classification":
            tokens = _answer(encoded)
            ids = self._labels[name, bool(record.get("steps"))].get(tuple(tokens))
            if ids is None:
                raise ValueError(
                    f"Record {record.get('id', '?')} of the task {name!r} has the answer {record['answer']!r}, which "
                    f"is not one of its labels ({', '.join(self.tasks[name].labels)}). Fix the record or the labels."
                )
            columns[CHOICE_IDS][length - len(tokens) :] = ids
        return columns


def _answer(encoded: Mapping[str, list[int]]) -> list[int]:
    pairs = zip(encoded["input_ids"], encoded["segment_ids"], strict=True)
    return [token for token, segment in pairs if segment == ANSWER]
