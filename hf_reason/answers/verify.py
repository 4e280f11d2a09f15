"""Does an answer state the same as the reference? One way in: final part, normalise, compare by type.

Only formulas that need algebra go to math-verify; free text is never judged wrong.
"""

import re
from itertools import pairwise

from .choices import chosen, is_choice, option
from .clock import read_time
from .compare import same, same_number
from .compare_kinds import KINDS
from .currency import amounts
from .expressions import MAX_LENGTH
from .final import all_boxes, final_part, own_answer
from .forms import final_number, numbers_in, pure_number
from .normalise import fold, joined_digits, undressed
from .parts import numbered_end
from .reading import read
from .revisions import without_denials
from .sentences import match_kind, match_list, match_named
from .statements import judgement, states
from .symbolic import MAX_SYMBOLIC, hostile, verify_symbolic
from .traditional import simplified
from .values import Group, Named, Number, Real, Region, Symbol, Value, Words
from .words import opposite_words, other_substance, polarity, same_words, says_all, says_none

__all__ = ["answers_match", "final_number"]

_SEGMENT = re.compile(r"\$\$?([^$]{1,400}?)\$\$?|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]", re.DOTALL)
_COPULA = re.compile(r"(?:是|为|等于|有|:|：|\bis|\bare|\bequals?|\bbe)\s*")
_COMPARES = re.compile(r"[<>≤≥≠]|\\(?:le|ge|lt|gt|ne)(?:q|qslant)?(?![a-z])")
# Parts of a text that may be a formula; a number in one of them is not the whole result.
_FORMULA = re.compile(
    r"\\(?:sqrt|pi|sin|cos|tan|log|ln|infty|pm|frac|binom)|[√π^±!]|^\S{0,30}\d[a-z](?![a-zA-Z²³])\S{0,30}$"
    r"|[\[(][^\u4e00-\u9fff]*,[^\u4e00-\u9fff]*[\])]"
)
_NONE_SAID = re.compile(
    r"(?<!不是)(?<!并非)(?<!是否)(?:无|没有)(?:实数?)?[解根]|不存在|no (?:real )?solutions?|does not exist",
    re.IGNORECASE,
)
# What models write after their answer: the next turn of a chat, a phrase of the prompts that they were given.
_TURN = re.compile(
    r"(?:I hope it is correct\.?\s*)?<\|(?:im_start|im_end|endoftext|eot_id)\|>|I hope it is correct\.?\s*$"
)
# Only where the reference is a decimal: everywhere else "1,22" lists two numbers.
_DECIMAL_COMMA = re.compile(r"-?(?:\d+,(?:\d{1,2}|\d{4,})|0,\d{3}|\d{4,},\d{3})")
_WORDS = re.compile(r"第[^\d\s][\u4e00-\u9fff]{1,8}$|^[A-Z][a-z]?\d?[A-Z]")
_MAX_WORDS = 8
_MAX_TEXT = 60


def _segments(part: str) -> list[str]:
    """The formulas of a sentence that stand last and belong together."""
    matches = list(_SEGMENT.finditer(part))
    if not matches:
        return []
    group = [matches[-1]]
    for before, after in reversed(list(pairwise(matches))):
        if not re.fullmatch(r"\s*(?:,|，|、|;|和|或|(?:,\s*)?and|(?:,\s*)?or)\s*", part[before.end() : after.start()]):
            break
        group.insert(0, before)
    return [next(text for text in match.groups() if text is not None) for match in group]


def _approximations(text: str) -> list[str]:
    """A chain `exact ≈ rounded` states both; every other text is one statement."""
    sides = re.split(r"≈|\\approx", text)
    return [text] if len(sides) == 1 else [side for side in (sides[0], sides[-1]) if side.strip()]


def _readings(part: str, whole: str, marked: bool) -> list[tuple[Value, bool]]:
    """What the final part may state, the surest first, each with whether it proves an answer wrong."""
    found: list[tuple[Value, bool]] = []
    whole = without_denials(whole) if len(whole) <= MAX_SYMBOLIC else whole
    for text in dict.fromkeys((part,) if marked else (whole, part) if len(whole) <= MAX_SYMBOLIC else (part,)):
        for side in _approximations(text):
            value = read(side)
            if not isinstance(value, Words):
                found.append((value, not _counts(value)))
        if found:
            return found
    segments = _segments(part)
    if segments:
        value = read(" ; ".join(segments))
        if not isinstance(value, Words):
            short = marked or len(part.split()) <= _MAX_WORDS
            found.append((value, short and not isinstance(value, Symbol) or short))
        found += [(read(side), False) for side in _approximations(segments[-1])[:-1]]
    pieces = _COPULA.split(part)
    if len(pieces) > 1 and not isinstance(value := read(pieces[-1]), Words):
        found.append((value, False))
    return found


def _counts(value: Value) -> bool:
    """需要36元,买12本: a sentence that names what its numbers are, not unknowns."""
    return isinstance(value, Named) and len(value.items) > 1 and not all(name.isascii() for name, _ in value.items)


def _judge(readings: list[tuple[Value, bool]], reference: Value) -> bool | None:
    verdicts = [(same(value, reference), sure) for value, sure in readings]
    if any(verdict for verdict, _ in verdicts):
        return True
    if verdicts and verdicts[0][1] and all(verdict is False for verdict, _ in verdicts):
        return False
    return None


def _by_boxes(answer: str, reference: Group | Named) -> bool | None:
    """Boxes in sentences of their own: as many as the reference has values, in its order or without names."""
    boxes = all_boxes(answer)
    gaps = [answer[before[1] : after[0]] for before, after in pairwise(boxes)]
    if len(boxes) != len(reference.items) or not all(re.search(r"[。！？\n;；]|\.\s", gap) for gap in gaps):
        return None
    values = tuple(read(box[2]) for box in boxes)
    return same(Group("list", values), reference) or None


def _match_number(answer: str, part: str, marked: bool, reference: Number) -> bool | None:
    """The number of a sentence against a number."""
    segments = list(_SEGMENT.finditer(part))
    if segments and re.search(r"\d", part[segments[-1].end() :]):
        part = part[segments[-1].end() :]
    if _COMPARES.search(part):
        return None
    wanted = reference.stated
    if wanted.unit.startswith("时") and (time := read_time(fold(part), anywhere=True)) and same(time, reference):
        return True
    formula = _FORMULA.search(re.split(r"[=≈]", part)[-1].strip(" .。")[-MAX_SYMBOLIC:])
    found = numbers_in(part) or ([] if marked and formula else numbers_in(answer[-1000:]))
    if not found or formula:
        return None
    if same_number(found[-1], wanted):
        return True
    # A sentence with several numbers may state the result first: "需要36元，买12本".
    if not marked or len(found) > 1:
        others = found[:-1] + ([] if marked else numbers_in(answer[-1000:]))
        if any(same_number(value, wanted) for value in others):
            return None
    return False


def _match_formula(answer: str, part: str, marked: bool, reference: Symbol) -> bool | None:
    """What math-verify picks from unmarked prose need not be the result, so it proves nothing against it."""
    text = part if marked or "$" not in answer or len(answer) > MAX_SYMBOLIC else answer
    if len(text) > MAX_SYMBOLIC or hostile(answer[-5000:]):
        return None
    verdict = verify_symbolic(text, reference.text)
    return verdict if verdict or marked or len(answer.split()) <= _MAX_WORDS - 2 else None


def _match_value(answer: str, reference: Value) -> bool | None:
    numbered = numbered_end(answer)
    part, marked = (numbered, True) if numbered else final_part(answer)
    if says_none(part) and not isinstance(reference, Words | Symbol):
        return False
    if isinstance(reference, Number) and reference.stated.decimals and _DECIMAL_COMMA.fullmatch(undressed(part)):
        part = answer = undressed(part).replace(",", ".")
    readings = _readings(part, answer, marked)
    if isinstance(reference, Group | Named) and _by_boxes(answer, reference):
        return True
    verdict = _judge(readings, reference)
    if verdict is not None:
        return verdict
    if readings and readings[0][1]:
        return None
    if isinstance(reference, Number):
        return _match_number(answer, part, marked, reference)
    if isinstance(reference, Group):
        return match_list(part, reference)
    if isinstance(reference, Named):
        if len(reference.items) == 1 and isinstance(reference.items[0][1], Number):
            return _match_number(answer, part, marked, reference.items[0][1])
        return match_named(answer, reference)
    if isinstance(reference, KINDS):
        return match_kind(fold(part), reference)
    if isinstance(reference, Symbol):
        return _match_formula(answer, part, marked, reference)
    return None


def _match_options(answer: str, target: str) -> bool | None:
    said = chosen(answer)
    if said is None:
        return states(final_part(answer)[0], target) or None
    return said == is_choice(target)


def _match_words(answer: str, target: str) -> bool | None:
    """A reference in words: yes or no, no solution, or the same words."""
    wanted = polarity(target)
    if wanted is not None:
        said = polarity(answer)
        said = judgement(final_part(answer)[0]) if said is None else said
        return None if said is None else said == wanted
    part, marked = final_part(answer)
    if says_none(target) or says_all(target):
        if says_none(part) or says_all(part) or _NONE_SAID.search(part):
            return says_all(part) == says_all(target)
        value = read(part)
        return False if isinstance(value, Number | Real | Region | Group | Named) else None
    if len(target) > _MAX_TEXT:
        return None
    if same_words(part, target) or states(part, target):
        return True
    return False if opposite_words(part, target) or other_substance(part, target) else None


def _entered(text: str) -> str:
    """A text as every rule reads it: simplified characters, units behind their amounts, no next turn of a chat."""
    return amounts(joined_digits(_TURN.split(simplified(text.strip()))[0].strip()))


def answers_match(answer: str, reference: str) -> bool | None:
    """Whether `answer` states the same result as `reference`.

    The answer may be a whole sentence or a text with `\\boxed{...}` (several that belong together are one list); its
    final statement counts. Each type is compared by its own rule: numbers exactly in all common writings
    (二分之一 = 1/2 = 0.5 = 50%, 三万五 = 35000, 3元5角 = 3.5元, 1.6e-18, 10!), closed forms (2√3, 3π) by a relative
    tolerance, units converted where both sides name one and refused where they measure different things, times of the
    day, ratios, lists and sets in any order, tuples in order, unknowns by name, intervals and inequalities by their
    bounds, options by their letters, yes and no. Everything else that is mathematical goes to math-verify.

    Args:
        answer: What was answered.
        reference: What is correct.

    Returns:
        `True` or `False`, or `None` when it cannot be decided (free text, an empty side, or an answer
        from which no single result can be read).
    """
    answer, reference = _entered(own_answer(answer)), _entered(reference)
    if not answer or not reference:
        return None
    if answer == reference or same_words(answer, reference):
        return True
    part, marked = final_part(reference)
    target = part if marked else without_denials(reference)
    if target.strip("$ ") == "R" and isinstance(read(final_part(answer)[0]), Region):
        return _match_value(answer, read(target))
    if polarity(target) is None and is_choice(target):
        return _match_options(answer, target)
    labelled = option(target)
    if labelled:
        said = chosen(answer)
        return said == labelled[0] if said else answers_match(answer, labelled[1])
    if len(target) > MAX_LENGTH:
        return None
    if polarity(target) is not None or says_none(target) or says_all(target):
        return _match_words(answer, target)
    value = read(target)
    if isinstance(value, Words) and "$" in target and len(target) > _MAX_TEXT:
        segments = _segments(target)
        value = read(" ; ".join(segments)) if segments and pure_number(segments[-1]) is None else value
    if isinstance(value, Words):
        return _match_words(answer, target)
    verdict = _match_value(answer, value)
    # 第三象限, H2O: words that may be read as a value
    return states(final_part(answer)[0], target) or None if verdict is None and _WORDS.search(target) else verdict
