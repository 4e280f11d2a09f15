"""Does an answer state the same as the reference? Numbers exactly, LaTeX through math-verify, free text not at all."""

import logging
import re
import signal
import threading
import unicodedata
from fractions import Fraction

from .forms import UNITS, Stated, final_number, final_part, numbers_in, pure_number

__all__ = ["answers_match", "final_number"]

_PUNCTUATION = re.compile(r"[\s，。、；：！？,.;:!?'\"“”‘’`*$（）()【】\[\]]+")
_SEPARATORS = re.compile(r"\s*(?:[;；、，和与及或]|,\s+|,(?!\d{3}(?!\d))|\band\b|\bor\b)\s*")
_YES = frozenset(["是", "对", "正确", "对的", "是的", "可以", "能", "真", "yes", "true", "correct", "right"])
_NO = frozenset(["否", "不是", "错", "错误", "错的", "不对", "不正确", "不可以", "不能", "假"])
_NO |= {"no", "false", "incorrect", "wrong"}
_CHOICE = re.compile(r"^[(（\[]?([A-H](?:[、,，\s]*[A-H]){0,7})[)）\]]?[.。:：]?$")
_CHOICE_STATED = re.compile(
    r"(?:选项?|答案(?:是|为)?[:：]?|[Oo]ption|[Cc]hoice|[Aa]nswer(?: is)?[:：]?)"
    r"\s*[(（]?([A-H]{1,8})(?![A-Za-z])"
)
_CHOICE_LEADS = re.compile(r"^[(（\[]?([A-H])(?:[)）\]]|[.、:：]|\s*$)")
_MATHEMATICAL = re.compile(r"[\\^_=<>√π∞∪∩{}]|[+*/-].*[A-Za-z]|[A-Za-z].*[+*/-]|^[a-z]$|^[\[(].*,.*[\])]$")
# A result that is not a plain number: roots, powers, intervals and points, unknowns.
_SYMBOLIC = re.compile(
    r"\\(?:sqrt|pi|sin|cos|tan|log|ln|infty|pm)|[√π^±]|^\S{0,30}\d[a-z](?![a-zA-Z²³])\S{0,30}$"
    r"|^\$?[\[(][^\u4e00-\u9fff]*,[^\u4e00-\u9fff]*[\])]\$?$"
)
# What makes a computer algebra system run for ever: towers, long exponents, big factorials.
_HOSTILE = re.compile(
    r"(?:\^|\*\*)\s*[{(]?\s*-?\d{4,}|\d{4,}\s*!|!\s*!"
    r"|(?:\^|\*\*)[^+\-=]{0,20}(?:\^|\*\*)[^+\-=]{0,20}(?:\^|\*\*)"
)
_MAX_SYMBOLIC = 500
_MAX_WORDS = 6
_TIMEOUT_SECONDS = 3


def _plain(text: str) -> str:
    """Text without spaces and letter case; without punctuation as well, where it cannot be part of a number."""
    text = unicodedata.normalize("NFKC", text).casefold()
    if any(char.isdigit() or char in "\\{}" for char in text):
        return "".join(text.split()).strip("。.$")
    return _PUNCTUATION.sub("", text)


def _repeats(value: Fraction) -> bool:
    """Whether the decimals of `value` never end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest != 1


def _same_number(answer: Stated, reference: Stated) -> bool:
    left, right = answer.value, reference.value
    ours, theirs = UNITS.get(answer.unit), UNITS.get(reference.unit)
    if ours and theirs and ours[0] == theirs[0] and ours[1] != theirs[1]:
        return left * ours[1] == right * theirs[1]
    if left == right:
        return True
    # "30%" against "30" in a question that asks for percent.
    if answer.percent != reference.percent:
        numeral, other = (left * 100, right) if answer.percent else (right * 100, left)
        return numeral == other and abs(other) >= 1
    # 0.33 for 1/3: two digits or more, and one side does not end.
    for short, exact in ((answer, reference), (reference, answer)):
        digits = short.decimals
        if digits is not None and digits >= 2 and _repeats(exact.value):
            unit = Fraction(1, 10**digits) / (100 if short.percent else 1)
            return abs(short.value - exact.value) <= unit / 2
    return False


def _as_list(text: str) -> list[Stated] | None:
    """The numbers of a text that lists two or more and nothing else (`$5$;$10$`, `x=1 或 x=2`)."""
    parts = [part for part in _SEPARATORS.split(text.strip(" .。{}")) if part.strip(" $")]
    if not 2 <= len(parts) <= 20:
        return None
    values = [pure_number(part) for part in parts]
    return [value for value in values if value is not None] if all(values) else None


def _same_list(answer: list[Stated], reference: list[Stated]) -> bool:
    """Whether the lists pair off, in whatever order."""
    left = list(answer)
    for wanted in reference:
        match = next((index for index, value in enumerate(left) if _same_number(value, wanted)), None)
        if match is None:
            return False
        left.pop(match)
    return not left


def _choice(text: str) -> str | None:
    """The option letters that an answer chooses, sorted, or `None`."""
    part, marked = final_part(text)
    for candidate in (text.strip(), re.sub(r"\\text\s*\{?|[{}$*]", "", part).strip()):
        match = _CHOICE.match(candidate)
        if match:
            return "".join(sorted(set(re.findall(r"[A-H]", match[1]))))
    stated = _CHOICE_STATED.findall(text)
    if stated:
        return "".join(sorted(set(stated[-1])))
    match = _CHOICE_LEADS.match(part if marked else text.strip())
    return match[1] if match else None


def _tail(part: str) -> str:
    """What a chain of equal signs ends on."""
    return re.split(r"[=≈]", part)[-1].strip(" .。")


def _polarity(text: str) -> bool | None:
    word = _plain(final_part(text)[0])
    return True if word in _YES else False if word in _NO else None


def _match_numbers(answer: str, reference: Stated) -> bool | None:
    part, marked = final_part(answer)
    whole = pure_number(part) or pure_number(answer)
    if whole is not None:
        return _same_number(whole, reference)
    if _SYMBOLIC.search(_tail(part)):
        return None
    if _as_list(part) is not None:
        return False
    found = numbers_in(part) or numbers_in(answer[-1000:])
    if not found:
        return None
    if _same_number(found[-1], reference):
        return True
    # A sentence with several numbers may state the result first: "需要36元，买12本".
    if not marked or len(found) > 1:
        others = found[:-1] + ([] if marked else numbers_in(answer[-1000:]))
        if any(_same_number(value, reference) for value in others):
            return None
    return False


def _match_lists(answer: str, reference: list[Stated]) -> bool | None:
    part, _ = final_part(answer)
    listed = _as_list(part) or _as_list(answer)
    if listed is not None:
        return _same_list(listed, reference)
    # The sentence must name as many numbers as asked for; otherwise it is unclear which ones count.
    found = [stated for piece in _SEPARATORS.split(part) for stated in numbers_in(piece)]
    if len(found) == len(reference):
        return _same_list(found, reference)
    return False if len(found) == 1 else None


def _match_symbolic(answer: str, reference: str) -> bool | None:
    """Compare with math-verify; `None` where either side has nothing that it can parse."""
    if len(reference) > _MAX_SYMBOLIC or _HOSTILE.search(reference) or _HOSTILE.search(answer[-5000:]):
        return None
    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # math-verify stops a long computation by SIGALRM, which only the main thread may set and which
    # would cancel an alarm that somebody else has running.
    free = threading.current_thread() is threading.main_thread() and not signal.getitimer(signal.ITIMER_REAL)[0]
    limit = _TIMEOUT_SECONDS if free else None
    part, marked = final_part(answer)
    if not marked and len(answer) > _MAX_SYMBOLIC or marked or "$" not in answer:
        answer = part
    if len(answer) > _MAX_SYMBOLIC:
        return None

    def parsed(text: str) -> list:
        wrapped = text if "$" in text or r"\(" in text or r"\[" in text else f"${text}$"
        return parse(wrapped, fallback_mode="no_fallback", parsing_timeout=limit)

    gold, target = parsed(reference), parsed(answer)
    if not gold or not target:
        return None
    # The reference goes first: math-verify's comparison is not symmetric.
    same = bool(verify(gold, target, allow_set_relation_comp=True, timeout_seconds=limit))
    # What math-verify picks from unmarked prose need not be the result, so it proves nothing against it.
    return same if same or marked or len(answer.split()) <= _MAX_WORDS else None


def answers_match(answer: str, reference: str) -> bool | None:
    """Whether `answer` states the same result as `reference`.

    The answer may be a whole sentence or a text with `\\boxed{...}`; its final statement counts. Numbers
    are compared exactly in all common writings (二分之一 = 1/2 = 0.5 = 50%, 3万 = 30000, 31(1/9), 1,200元,
    full width); units convert where both sides name one; several answers match in any order; option
    letters, yes and no; everything else that is mathematical goes to math-verify.

    Args:
        answer: What was answered.
        reference: What is correct.

    Returns:
        `True` or `False`, or `None` when it cannot be decided (free text, an empty side, or an answer
        from which no single result can be read).
    """
    answer, reference = answer.strip(), reference.strip()
    if not answer or not reference:
        return None
    if answer == reference or (_plain(answer) == _plain(reference) != ""):
        return True
    part, marked = final_part(reference)
    target = part if marked else reference
    if _CHOICE.match(target):
        chosen = _choice(answer)
        return None if chosen is None else chosen == _choice(target)
    number = pure_number(target)
    if number is not None:
        verdict = _match_numbers(answer, number)
        return verdict if verdict is not None else _symbolic_if_latex(answer, target)
    listed = _as_list(target)
    if listed is not None:
        return _match_lists(answer, listed)
    wanted = _polarity(target)
    if wanted is not None:
        said = _polarity(answer)
        return None if said is None else said == wanted
    if _MATHEMATICAL.search(target) and not re.search(r"[\u4e00-\u9fff]{3}", target):
        return _match_symbolic(answer, target)
    return None


def _symbolic_if_latex(answer: str, reference: str) -> bool | None:
    return _match_symbolic(answer, reference) if _SYMBOLIC.search(_tail(final_part(answer)[0])) else None
