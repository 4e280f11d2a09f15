"""Is a step of a chain right? A rule, not a model: its equations hold, and its numbers come from somewhere."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from typing import Any

from hf_reason.answers.equations import Equation, evaluate_expression, find_equations
from hf_reason.answers.expressions import Operation, evaluate, parse_expression
from hf_reason.answers.final import final_part

from .known_numbers import CONSTANTS, SMALL, at_once, is_one_number, known_numbers, operands, sizes, stated_numbers

# What `judge_steps` says of a step.
HOLDS = "holds"
FALSE = "false"  # an equation does not hold
FOREIGN = "foreign"  # a number comes from nowhere
WEAK = "weak"  # small numbers only, which any text has: filler, unless it leads to the answer
FILLER = "filler"  # a calculation of constants, or one that changes nothing
REPEATED = "repeated"  # every equation stood there before
TAINTED = "tainted"  # goes on from a wrong step
UNUSED = "unused"  # nothing goes on from it, and it does not give the answer
PROSE = "prose"  # no equation
# The surest origin of a number first.
_ORIGINS = ("anchor", "derived", "context", "constant", "claimed", "wrong", "foreign")
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
# Of the equations of a step.
_GRAVEST = (FALSE, FOREIGN, TAINTED, HOLDS, WEAK, FILLER)
_GIVEN = ("anchor", "derived", "context")
VALUES: dict[str, float | None] = {HOLDS: 1.0, FALSE: 0.0, FOREIGN: 0.0}


class _Chain:
    """What is known while a chain is read."""

    def __init__(self, context: str):
        self.context = known_numbers(context)
        # numbers that only this problem has, and what was made of them
        self.anchored = set(self.context - SMALL)
        self.derived: set[Fraction] = set()  # results of right steps, and what follows from them at once
        self.plain: set[Fraction] = set()  # results of calculations of constants
        self.wrong: set[Fraction] = set()  # results of wrong steps
        self.claimed: set[Fraction] = set()  # what prose or an equation with unknowns has stated ...
        self.unread: list[str] = []  # ... and the steps that were not read for it, since nobody has asked yet
        self.rewritten: set[str] = set()  # expressions that are equal to one of known numbers
        self.seen: set[tuple[Any, ...]] = set()

    def origin(self, value: Fraction) -> str:
        """Where a number comes from."""
        value = abs(value)
        if value in self.anchored or not self.context:  # in a problem without numbers none can be foreign
            return "anchor"
        for name in ("derived", "context", "wrong"):
            if value in getattr(self, name):
                return name
        if value in CONSTANTS or value in self.plain:
            return "constant"
        for step in self.unread:
            self.claimed |= known_numbers(step)
        self.unread.clear()
        return "claimed" if value in self.claimed else "foreign"

    def add_wrong(self, values: Set[Fraction]) -> None:
        self.wrong |= {abs(value) for value in values} - self.derived - self.context - CONSTANTS


# The completions of a group have many steps in common, and trainers ask for verdicts and rewards of the same ones.
@lru_cache(maxsize=2**14)
def equations_of(step: str) -> tuple[Equation, ...]:
    """The equations of a step; see `find_equations`."""
    return tuple(find_equations(step))


@lru_cache(maxsize=2**14)
def _results(equation: Equation) -> frozenset[Fraction]:
    """The exact value of an equation, and the value that it states: 3.33 and 10/3, or quotient and remainder."""
    found = {equation.value}
    for part in equation.result.split("……"):
        with suppress(ValueError):
            found.add(evaluate_expression(part))
    return frozenset(found)


@lru_cache(maxsize=2**14)
def _changes_nothing(expression: str) -> bool:
    """48+0, 48×1, 48÷1, 48-0: the result is what was there."""
    with suppress(ValueError):
        tree = parse_expression(expression)
        if isinstance(tree, Operation):
            left, right, whole = evaluate(tree.left), evaluate(tree.right), evaluate(tree)
            neutral = 0 if tree.op in "+-" else 1
            return (whole == left and right == neutral) or (whole == right and left == neutral and tree.op in "+*")
    return False


def _judge(step: str, equations: Sequence[Equation], chain: _Chain) -> str:
    """The verdict on one step; adds what it states to what is known."""
    if not equations:
        chain.unread.append(step)
        return PROSE
    chain.claimed |= _said_beside(step, equations)
    verdicts = []
    for equation in equations:
        key = _key(equation)
        if key in chain.seen:
            verdicts.append(REPEATED)
            continue
        chain.seen.add(key)
        verdicts.append(_judge_equation(equation, chain))
    chain.unread.append(step)
    return next((verdict for verdict in _GRAVEST if verdict in verdicts), REPEATED)


def _key(equation: Equation) -> tuple[Any, ...]:
    """The same for 48+24=72, 24+48=72 and 72-24=48: what restates an equation or checks it by the inverse."""
    sides = equation.expression, equation.result
    if is_one_number(equation.result) and len(numbers := operands(equation.expression)) == 2:
        sums = any(sign in equation.expression.lstrip("-+(") for sign in "+-")
        values = [*(abs(readings[0]) for readings in numbers), abs(equation.value)]
        return (equation.holds, sums, *sorted(values))
    return (equation.holds, *sides)


def _said_beside(step: str, equations: Sequence[Equation]) -> set[Fraction]:
    """Numbers that a step says outside of its equations: one ton is 2000 pounds, so 2000×3=6000."""
    sides = {side for equation in equations for side in (equation.expression, equation.result)}
    inside = Counter(text for side in sides for text in _DIGITS.findall(side))
    return {Fraction(text) for text in Counter(_DIGITS.findall(step.replace(",", ""))) - inside}


def _judge_equation(equation: Equation, chain: _Chain) -> str:
    results = _results(equation)
    if not equation.holds:
        chain.add_wrong(results - {equation.value})
        chain.derived.add(equation.value)
        return FALSE
    origins = _origins(equation.expression, chain)
    if not is_one_number(equation.result):
        if equation.result not in chain.rewritten:
            # either side may be the one that is known; the other only writes it anew
            other = _origins(equation.result, chain)
            origins = min(origins, other, key=lambda found: max(map(_ORIGINS.index, found), default=0))
        chain.rewritten |= {equation.expression, equation.result}
    if origins.count("foreign") == 1 and any(chain.origin(value) in _GIVEN for value in results):
        origins.remove("foreign")  # the unknown stands on the left: 50-49=1, where 50 and 1 are given
    for origin, verdict in (("foreign", FOREIGN), ("wrong", TAINTED), ("claimed", TAINTED)):
        if origin in origins:
            chain.add_wrong(results)
            return verdict
    if _changes_nothing(equation.expression) or not {*_GIVEN} & set(origins):
        chain.plain |= results
        return FILLER
    chain.derived |= {near for value in results for near in at_once(value)}
    if "anchor" not in origins:
        return WEAK
    chain.anchored |= results | {near for value in results for near in at_once(value)} - SMALL
    return HOLDS


def _origins(expression: str, chain: _Chain) -> list[str]:
    """Where each number of an expression comes from, by its best reading."""
    if expression in chain.rewritten:
        return ["anchor"]
    numbers = operands(expression, lambda value: chain.origin(value) in _GIVEN)
    return [min(map(chain.origin, readings), key=_ORIGINS.index) for readings in numbers]


def _drop_unused(
    verdicts: list[str], found: Sequence[Sequence[Equation]], goal: set[Fraction], deep: bool
) -> list[str] | None:
    """`verdicts` with `unused` for the right steps that nothing goes on from (`deep`: nothing that leads to the goal).

    Returns:
        `None` where `deep` and no step reaches the goal.
    """
    needed = {size for value in goal for size in sizes(value)}
    if deep and not any(_gives(equations, needed) for equations in found):
        return None
    for at in range(len(found) - 1, -1, -1):
        if verdicts[at] in (HOLDS, WEAK):
            gives = _gives(found[at], needed)
            if verdicts[at] == WEAK:
                verdicts[at] = HOLDS if gives and deep else FILLER
            elif not gives:
                verdicts[at] = UNUSED
        idle = verdicts[at] in ((UNUSED, FILLER) if deep else ())
        # the inverse of an earlier step may be on the way itself: 7 boxes of 4 are 28, shared among 7 it is 4 again
        if not idle and (verdicts[at] != REPEATED or _gives(found[at], needed)):
            needed |= _operands(found[at])
    return verdicts


def _gives(equations: Sequence[Equation], needed: set[Fraction]) -> bool:
    return any(sizes(value) & needed for equation in equations for value in _results(equation))


def _any_value(value: Fraction) -> bool:
    return True


def _operands(equations: Sequence[Equation]) -> set[Fraction]:
    """Every number that the equations go on from, in all readings."""
    found: set[Fraction] = set()
    for equation in equations:
        for side in (equation.expression, *((equation.result,) if not is_one_number(equation.result) else ())):
            for readings in operands(side) + operands(side, _any_value):
                found.update(map(abs, readings))
    return found


def judge_steps(steps: Sequence[str], context: str = "", answer: str | None = None) -> list[str]:
    """What is to be said of each step, in one word.

    `holds`: the equations hold, and every number in them comes from the problem, an earlier result or the constants
    of daily life. `false`: an equation does not hold. `foreign`: a number comes from nowhere. All others neither win
    nor lose:

    - `prose`: no equation.
    - `repeated`: it stood there before, or its inverse did.
    - `filler`: a calculation of constants such as 1+1=2, one that changes nothing, such as 48+0=48, or one of small
      numbers only that does not lead to the answer.
    - `tainted`: right arithmetic on a wrong result, or on a number that was only claimed.
    - `unused`: where `answer` states a number, nothing goes on from it, nor is it the answer.

    Args:
        steps: The steps, without labels.
        context: The problem. Without any number in it no number can be foreign.
        answer: The answer that the steps lead to.
    """
    chain = _Chain(context)
    found = [equations_of(step) for step in steps]
    verdicts = [_judge(step, equations, chain) for step, equations in zip(steps, found, strict=True)]
    goal = set(stated_numbers(final_part(answer)[0])) if answer else set()
    if goal:
        reached = _drop_unused(list(verdicts), found, goal, deep=True)
        # an answer that no step gives (a count of steps, a name) says little of what led to it
        verdicts = reached or _drop_unused(verdicts, found, goal, deep=False) or verdicts
    verdicts = [FILLER if verdict == WEAK else verdict for verdict in verdicts]
    return verdicts


def step_verdicts(steps: Sequence[str], context: str = "", answer: str | None = None) -> list[float | None]:
    """A value for each step: 1 holds, 0 wrong, `None` nothing to check (or nothing to credit); see `judge_steps`.

    Args:
        steps: The steps, without labels.
        context: The problem; an empty one checks the equations only.
        answer: The answer that the steps lead to: the completion's own, or the reference's. With it, a right
            calculation that leads nowhere gets `None`.
    """
    return [VALUES.get(verdict) for verdict in judge_steps(steps, context, answer)]


def first_wrong(verdicts: Iterable[float | None]) -> int | None:
    """The index (from 0) of the first step whose verdict is below 1/2; `None` if there is none."""
    for index, verdict in enumerate(verdicts):
        if verdict is not None and verdict < 0.5:
            return index
    return None
