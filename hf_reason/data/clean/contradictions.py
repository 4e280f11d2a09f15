"""Does an answer contradict the chain that leads to it? Such records are reported as suspicious, and kept."""

import re

from hf_reason.answers.forms import final_part, numbers_in
from hf_reason.answers.verify import answers_match

_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
_CHOICE = re.compile(r"[(（]?[A-H][)）.。]?")
# A quantity in two units, whose parts say nothing alone.
_COMPOUND = re.compile(r"\d\s*(?:小时|时|分|天|元|角|千米|公里|米|分米|千克|公斤|吨|hours?|h|feet|ft|pounds?)\s*零?\d")
# The end of a chain: its last steps that state a number. One more than the last, because many chains close by a check.
_LAST_STEPS = 2
# A longer answer is an explanation, and its last number need not be the result.
_MAX_ANSWER = 60


def contradicts_chain(steps: list[str], answer: str) -> bool:
    """Whether the chain ends in another result than the answer.

    Deliberately narrow, because a chain may state many numbers: it is `True` only where the answer gives one number
    (or one option letter) and the last steps give others, none of which is the same in any writing (`answers_match`).
    Everything that cannot be decided is no contradiction.

    Args:
        steps: The chain.
        answer: The final answer.
    """
    # Nearly every record ends here: the answer's number stands in the last step as it is.
    digits = _DIGITS.findall(answer)
    if digits and steps and digits[-1] in _DIGITS.findall(steps[-1]):
        return False
    result = _result(answer)
    if result is None:
        return False
    if _CHOICE.fullmatch(result):
        return bool(steps) and answers_match(steps[-1], result) is False
    ending = [step for step in steps if any(char.isdigit() for char in step)][-_LAST_STEPS:]
    return bool(ending) and all(_states_only_others(step, result) for step in ending)


def _result(answer: str) -> str | None:
    """The one number or option letter that an answer gives, or `None`."""
    part, marked = final_part(answer)
    if not marked and len(answer) > _MAX_ANSWER:
        return None
    if _CHOICE.fullmatch(part.strip()):
        return part.strip()
    found = numbers_in(part)
    # A second number may belong to the result ("3小时20分"), or the sentence may only repeat the problem.
    return f"{found[0].written}{found[0].unit}" if len(found) == 1 else None


def _states_only_others(step: str, result: str) -> bool:
    if _COMPOUND.search(step) or answers_match(step, result) is not False:
        return False
    # Any number of the step may be the result, not only the last one.
    return not any(answers_match(stated.written + stated.unit, result) for stated in numbers_in(step))
