"""Does an answer contradict the chain that leads to it? Such records are reported as suspicious, and kept."""

import re

from hf_reason.answers.forms import Stated, final_part, numbers_in
from hf_reason.answers.traditional import simplified
from hf_reason.answers.units import measures
from hf_reason.answers.verify import answers_match

_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")
_CHOICE = re.compile(r"[(（]?[A-H][)）.。]?")
# A quantity in two units, whose parts say nothing alone.
_COMPOUND = re.compile(r"\d\s*(?:小时|时|分|天|元|角|千米|公里|米|分米|千克|公斤|吨|hours?|h|feet|ft|pounds?)\s*零?\d")
# The end of a chain: its last steps that state a number. One more than the last, because many chains close by a check.
_LAST_STEPS = 2
# What a step says that comes to a result.
_CONCLUDES = re.compile(r"[=＝≈]|答案|结果|一共|总共|[Aa]nswer|(?:所以|因此|[Tt]herefore|[Tt]hus)\D{0,20}\d+\D{0,4}$")
# A longer answer is an explanation, and its last number need not be the result.
_MAX_ANSWER = 60


def contradicts_chain(steps: list[str], answer: str) -> bool:
    """Whether the chain ends in another result than the answer.

    Deliberately narrow, because a chain may state many numbers: it is `True` only where the answer gives one number
    (or one option letter), the chain comes to a result of the same kind, and none of the numbers in its last steps is
    the answer's in any writing (`answers_match`). What cannot be decided does not count as a contradiction.

    Args:
        steps: The chain.
        answer: The final answer.
    """
    # Nearly every record ends here: the last step has the answer's number as it is written.
    digits = _DIGITS.findall(answer)
    if digits and steps and digits[-1] in _DIGITS.findall(steps[-1]):
        return False
    steps, answer = [simplified(step) for step in steps], simplified(answer)
    part, marked = final_part(answer)
    if not steps or (not marked and len(answer) > _MAX_ANSWER):
        return False
    if _CHOICE.fullmatch(part.strip()):
        return answers_match(steps[-1], part.strip()) is False
    # A second number may belong to the result ("3小时20分"), or the sentence may only repeat the problem.
    found = numbers_in(part)
    if not digits or len(found) != 1:
        return False
    ending = [step for step in steps if _DIGITS.search(step)][-_LAST_STEPS:]
    if not ending or not _CONCLUDES.search(ending[-1]):
        return False
    return all(_states_only_others(step, found[0]) for step in ending)


def _states_only_others(step: str, result: Stated) -> bool:
    stated = numbers_in(step)
    if _COMPOUND.search(step) or not any(_same_kind(each, result) for each in stated):
        return False
    if any(_in_hundredths(each, result) for each in stated):
        return False
    written = result.written + result.unit
    # Any number of the step may be the result, not only the last one.
    return answers_match(step, written) is False and not any(
        answers_match(each.written + each.unit, written) for each in stated
    )


def _in_hundredths(one: Stated, other: Stated) -> bool:
    """Whether one number may be the other in a unit a hundred times as large: $0.49 and 49 (cents), 0.2 and 20 (%)."""
    return bool(other.value) and one.value in (other.value * 100, other.value / 100)


def _same_kind(one: Stated, other: Stated) -> bool:
    """Whether one number could be in place of the other: percent or not, and no units of different dimensions."""
    left, right = ({dimension for dimension, _ in measures(stated.unit)} for stated in (one, other))
    return one.percent == other.percent and not (left and right and left.isdisjoint(right))
