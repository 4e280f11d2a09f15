"""Steps that nothing needs: a right calculation on whose result nothing goes on, and which is not the answer."""

import re
from collections.abc import Sequence
from fractions import Fraction

from hf_reason.answers.final import final_part
from hf_reason.rewards.known_numbers import known_numbers, sizes, stated_numbers
from hf_reason.rewards.step_judge import HOLDS, UNUSED, equations_of, judge_steps

# A chain that speaks of its steps by their numbers or places would say something else without one of them.
_REFERS = re.compile(
    r"第\s*[\d一二三四五六七八九十]+\s*步|步[骤驟]\s*[\d一二三四五六七八九十]|[上前]面?[一两几]?步|(?:^|[^\w])(?:式|等式)?[(（]\s*\d\s*[)）]式?|[①-⑳]"
    r"|\bsteps?\s*#?\(?\d|\b(?:previous|last|first|second|third|earlier|above)\s+(?:step|result|equation)|\bequations?\s*\(?\d",
    re.IGNORECASE,
)


def prune_steps(steps: Sequence[str], answer: str, problem: str) -> list[str]:
    """The steps without those that nothing needs.

    A step goes if it calculates something, the calculation is right, and neither a later step nor the answer has its
    result, in an equation or in prose. Prose, repetitions and checks stay; so does everything in a chain whose answer
    no step gives, or that speaks of its steps by number. What is left is judged again: every step of it must be judged
    as before, else nothing goes.

    Args:
        steps: The steps, without labels.
        answer: The answer that they lead to.
        problem: The problem, with its task.
    """
    whole = list(steps)
    goal = {size for value in stated_numbers(final_part(answer)[0]) for size in sizes(value)} if answer else set()
    if not any(_results(step) & goal for step in whole) or any(map(_REFERS.search, [*whole, answer])):
        return whole
    verdicts = judge_steps(whole, problem, answer)
    gone: set[int] = set()
    for place in range(len(whole) - 1, -1, -1):
        if verdicts[place] != UNUSED:
            continue
        later = [step for number, step in enumerate(whole[place + 1 :], start=place + 1) if number not in gone]
        needed = frozenset().union(*map(known_numbers, [*later, answer]))
        results = _results(whole[place])
        if results and not any(sizes(value) & needed for value in results):
            gone.add(place)
    kept = [step for place, step in enumerate(whole) if place not in gone]
    before = [verdict for place, verdict in enumerate(verdicts) if place not in gone]
    return kept if judge_steps(kept, problem, answer) == before and HOLDS in before else whole


def _results(step: str) -> frozenset[Fraction]:
    return frozenset(abs(equation.value) for equation in equations_of(step))
