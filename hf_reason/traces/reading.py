"""A sample, read and verified: its steps, its answer, and whether both are right."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_reason.data.record import clean_text
from hf_reason.data.segment.steps import split_steps
from hf_reason.evaluation.prose import read_prose
from hf_reason.rewards.answer import reward_of
from hf_reason.rewards.completion import Chain
from hf_reason.rewards.step_judge import FALSE, FOREIGN, judge_steps
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, closes, is_labelled, parse, split_completion

_WRONG = {"none": (), "equations": (FALSE,), "numbers": (FALSE, FOREIGN)}


# Where a sentence may begin (not after the number of a list), and what opens and closes a formula.
_BREAK = re.compile(r"\n|[。！？!?；;]|(?<!\n\d)(?<!\n\d\d)\.\s+(?=[A-Z])")
_FORMULAS = (("\\[", "\\]"), ("\\(", "\\)"))


@dataclass(frozen=True)
class Verified:
    """A sample with its verdicts.

    Attributes:
        sample: Its number.
        steps: Its steps.
        answer: Its answer.
        finished: Whether the teacher closed the thought, gave an answer and ended by itself.
        correct: Whether the answer is the reference's; `None` without a reference, or where nobody can tell.
        wrong_step: The first wrong step, from 1; the answer counts as the step after the last.
        num_tokens: Of the completion; 0 if a server did not say.
    """

    sample: int
    steps: list[str]
    answer: str
    finished: bool
    correct: bool | None
    wrong_step: int | None
    num_tokens: int

    @property
    def right(self) -> bool:
        """Whether the answer is verified and no step is wrong."""
        return self.finished and self.correct is True and self.wrong_step is None

    @property
    def size(self) -> tuple[int, int]:
        """What the shortest chain has the least of: tokens, then characters."""
        return self.num_tokens, len(self.answer) + sum(map(len, self.steps))


def steps_and_answer(content: str, thought: str | None = None) -> tuple[list[str], str, bool]:
    """What a teacher wrote, in steps.

    Args:
        content: The text, or what follows the thought where a server gives it apart.
        thought: The thought, where a server gives it apart.

    Returns:
        Steps, answer, and whether the thought was closed. Text without tags is prose: its steps, and the sentence that
        states the result.
    """
    text = content if thought is None else f"{OPEN_TAG}\n{thought.strip()}\n{CLOSE_TAG}\n\n{content}"
    if thought is None and not split_completion(text)[1]:
        if not closes(text):
            return parse(text).steps, "", False
        steps, start = read_prose(text)
        return steps, clean_text(text[sentence_start(text, start) :]), True
    if is_labelled(text):
        parsed = parse(text)
        return parsed.steps, parsed.answer, parsed.closed
    if thought is None:
        head, _, content = split_completion(text)
        thought = head.strip().removeprefix(OPEN_TAG)
    return split_steps(thought.strip()), clean_text(content, keep_indent=True), True


def sentence_start(text: str, place: int) -> int:
    """Where the sentence of a place begins: not within a formula, nor after a colon that announces it."""
    while True:
        start = max((match.end() for match in _BREAK.finditer(text) if match.end() <= place), default=0)
        rest = text[start:]
        outside = start
        for opening, closing in _FORMULAS:
            if rest.find(closing) >= 0 and not 0 <= rest.find(opening) < rest.find(closing):
                outside = min(outside, max(text.rfind(opening, 0, start), 0))
        if rest.count("$$") % 2:
            outside = min(outside, max(text.rfind("$$", 0, start), 0))
        before = text[:outside].rstrip()
        if outside == start and not before.endswith((":", "：")):
            return start
        if not before.endswith((":", "：")):
            return outside
        place = len(before) - 1


def verified(row: Mapping[str, Any], record: Mapping[str, Any], verify_steps: str) -> Verified:
    """Read a row of the journal and verify it against its problem."""
    steps, answer, closed = steps_and_answer(row["content"], row.get("thought"))
    finished = bool(row["ended"] and closed and not row.get("forced") and answer.strip())
    correct: bool | None = False
    if not record["answer"].strip():
        correct = None
    elif finished:
        reward = reward_of(Chain(answer, steps, answer, True, bool(steps)), record["answer"])
        correct = None if reward is None else reward > 0
    problem = f"{record['context']}\n{record.get('task') or ''}".strip()
    wrong = first_wrong(steps, answer, problem, verify_steps)
    return Verified(row["sample"], steps, answer, finished, correct, wrong, int(row.get("completion_tokens") or 0))


def first_wrong(steps: Sequence[str], answer: str, problem: str, verify_steps: str) -> int | None:
    """The first wrong step, from 1, the answer being the last; `None` if there is none."""
    refused = _WRONG[verify_steps]
    verdicts = judge_steps([*steps, answer], problem) if refused else []
    return next((number for number, verdict in enumerate(verdicts, start=1) if verdict in refused), None)
