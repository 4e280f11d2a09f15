"""Is a step of a chain right? A rule, not a model: its equations hold, and its numbers come from somewhere."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

from hf_reason.answers.equations import Equation, evaluate_expression, find_equations
from hf_reason.answers.expressions import Operation, evaluate, parse_expression

from .known_numbers import CONSTANTS, at_once, known_numbers, operands, stated_numbers

# What `judge_steps` says of a step.
HOLDS = "holds"
FALSE = "false"  # an equation does not hold
FOREIGN = "foreign"  # a number comes from nowhere
FILLER = "filler"  # a calculation of constants, or one that changes nothing
REPEATED = "repeated"  # every equation stood there before
TAINTED = "tainted"  # goes on from a wrong step
UNUSED = "unused"  # nothing goes on from it, and it does not give the answer
PROSE = "prose"  # no equation
VALUES: dict[str, float | None] = {HOLDS: 1.0, FALSE: 0.0, FOREIGN: 0.0}


@dataclass
class _Chain:
    """What is known while a chain is read."""

    context: frozenset[Fraction]
    anything: bool  # the problem says nothing of numbers, so that none can be foreign
    derived: set[Fraction] = field(default_factory=set)
    wrong: set[Fraction] = field(default_factory=set)
    seen: set[tuple[str, str]] = field(default_factory=set)


def _values(equation: Equation) -> tuple[Fraction, set[Fraction]]:
    """The exact value of an equation, and the value that it states."""
    stated: set[Fraction] = set()
    # a division with remainder states quotient and remainder
    for part in equation.result.replace("……", " ").split():
        with suppress(ValueError):
            stated.add(evaluate_expression(part))
    return equation.value, stated


def _numbers(equation: Equation) -> list[tuple[Fraction, ...]]:
    found = operands(equation.expression)
    right = operands(equation.result)
    return found + right if len(right) > 1 else found


def _changes_nothing(expression: str) -> bool:
    """48+0, 48×1, 48÷1, 48-0: the result is what was there."""
    with suppress(ValueError):
        tree = parse_expression(expression)
        if isinstance(tree, Operation):
            left, right, whole = evaluate(tree.left), evaluate(tree.right), evaluate(tree)
            neutral = 0 if tree.op in "+-" else 1
            return (whole == left and right == neutral) or (whole == right and left == neutral and tree.op in "+*")
    return False


def _judge(equations: list[Equation], chain: _Chain) -> str:
    """The verdict on one step; adds what it states to what is known."""
    verdicts = []
    for equation in equations:
        key = (equation.expression, equation.result)
        if key in chain.seen:
            verdicts.append(REPEATED)
            continue
        chain.seen.add(key)
        verdicts.append(_judge_equation(equation, chain))
    for verdict in (FALSE, FOREIGN, TAINTED, HOLDS, FILLER):
        if verdict in verdicts:
            return verdict
    return REPEATED


def _judge_equation(equation: Equation, chain: _Chain) -> str:
    exact, stated = _values(equation)
    if not equation.holds:
        chain.wrong |= stated - chain.derived - chain.context - CONSTANTS
        chain.derived.add(exact)
        return FALSE
    numbers = _numbers(equation)
    known = [_origin(readings, chain) for readings in numbers]
    results = {near for value in (exact, *stated) for near in at_once(value)}
    if "foreign" in known:
        chain.wrong |= {exact, *stated} - chain.derived - chain.context - CONSTANTS
        return FOREIGN
    if "wrong" in known:
        chain.wrong |= {exact, *stated} - chain.derived - chain.context - CONSTANTS
        return TAINTED
    if _changes_nothing(equation.expression) or not {"context", "derived"} & set(known):
        return FILLER
    chain.derived |= results
    return HOLDS


def _origin(readings: tuple[Fraction, ...], chain: _Chain) -> str:
    sizes = {abs(value) for value in readings}
    for name, known in (("derived", chain.derived), ("context", chain.context)):
        if sizes & known:
            return name
    if sizes & chain.wrong:
        return "wrong"
    if sizes & CONSTANTS:
        return "constant"
    return "context" if chain.anything else "foreign"


def _used(equations: list[Equation], later: set[Fraction]) -> bool:
    for equation in equations:
        exact, stated = _values(equation)
        if any(at_once(value) & later for value in (exact, *stated)):
            return True
    return False


def judge_steps(steps: Sequence[str], context: str = "", answer: str | None = None) -> list[str]:
    """What is to be said of each step, in one word.

    `holds`: the equations hold, and every number in them comes from the problem, an earlier result or the constants
    of daily life. `false`: an equation does not hold. `foreign`: a number comes from nowhere. All others neither win
    nor lose: `prose` (no equation), `repeated` (it stood there before), `filler` (a calculation of constants such as
    1+1=2, or one that changes nothing, such as 48+0=48), `tainted` (right arithmetic on a wrong result) and, where
    `answer` states a number, `unused` (nothing goes on from it, nor is it the answer).

    Args:
        steps: The steps, without labels.
        context: The problem. Without any number in it no number can be foreign.
        answer: The answer that the steps lead to.
    """
    known = known_numbers(context)
    chain = _Chain(known, anything=not known)
    found = [find_equations(step) for step in steps]
    verdicts = [_judge(equations, chain) if equations else PROSE for equations in found]
    goal = set(stated_numbers(answer)) if answer else set()
    if goal:
        later = {near for value in goal for near in at_once(value)}
        for at in range(len(steps) - 1, -1, -1):
            if verdicts[at] == HOLDS and not _used(found[at], later):
                verdicts[at] = UNUSED
            later |= {abs(value) for equation in found[at] for readings in _numbers(equation) for value in readings}
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
