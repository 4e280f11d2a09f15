"""Figures, formulas and the answer in a text that is translated: replaced by marks, put back, and checked after."""

import re
from collections import Counter
from fractions import Fraction
from unicodedata import normalize

from hf_reason.answers.equations import Equation, find_equations
from hf_reason.data.languages import detect_language, has_words
from hf_reason.data.segment.protected_spans import blocks, disjoint
from hf_reason.rewards.known_numbers import stated_numbers

_CJK = "\u3400-\u9fff"
_SIGN = "+\\-−–×÷*/=＝≈≠<>≤≥^:："
# full-width and circled digits, too; a sign belongs to a number that nothing stands before
_DIGIT = r"[\d０-９①-⑳]"
_SIGNED = r"(?:(?<![0-9０-９A-Za-z)）])[-−－])?"
_DIGITS = rf"{_SIGNED}(?:[#$€¥£￥]\s?)?{_DIGIT}+(?:[.,，/／．]{_DIGIT}+)*(?:\s?[%％‰°℃])?[²³]?"
# A number, or a calculation: numbers with units of up to three characters and brackets between their signs.
_TERM = rf"(?:[(（√π]|(?<![A-Za-z])[A-Za-z](?![A-Za-z])\s?){{0,4}}{_DIGITS}(?:[A-Za-z](?![A-Za-z])|[)）])*"
_BETWEEN = rf"(?:[{_CJK}]{{1,3}}|\s?[A-Za-z]{{1,3}})?[)）]*\s*[{_SIGN}]+\s*"
_FIGURE = re.compile(
    rf"[\[［【]\s*\d+\s*[\]］】]|(?:(?<![A-Za-z])[A-Za-z]\s*[{_SIGN}]\s*)?{_TERM}(?:{_BETWEEN}{_TERM})*"
    r"|[零〇一二两三四五六七八九十百千万亿]{2,}(?:分之[零〇一二两三四五六七八九十百千万亿]+)?",
    re.ASCII,
)
_MARK = re.compile(r"\[\s*(\d+)\s*\]|［\s*(\d+)\s*］|【\s*(\d+)\s*】", re.ASCII)
_NUMBER = re.compile(r"(?:(?<![0-9A-Za-z)])[-−][$€¥£]?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?", re.ASCII)
_MARKUP = re.compile(r"</?think>|步[骤驟]\s*\d+\s*[:：]|\[\d+\]|```", re.ASCII)
_BARE = re.compile(r"[\W\d_]+")
# What a translator says of its own task.
_PROMPT = re.compile(r"翻译|译文|方括号|translat|square bracket")
_LATIN, _CHINESE = re.compile(r"[a-z]{3,}"), re.compile(rf"[{_CJK}]")
# What any sentence may say: 一个, "a".
_ARTICLES = {Fraction(1)}
_SHORTEST, _LONGEST = 0.4, 2.5
# An answer of more characters than this is no name that would stand in a step as it is.
_LONGEST_ANSWER = 40


def protect(text: str, answer: str = "") -> tuple[str, list[str]]:
    """The text with marks `[1]`, `[2]`, ... for what must not change, and what they stand for.

    Protected are code, formulas, calculations with their units, numbers in digits and in Chinese numerals of two and
    more characters, and the answer where it stands in the text.

    Args:
        text: A step.
        answer: The record's answer.
    """
    spans = blocks(text)
    answer = answer.strip().strip("。.")
    if 1 < len(answer) <= _LONGEST_ANSWER:
        spans += [match.span() for match in re.finditer(re.escape(answer), text)]
    spans += [match.span() for match in _FIGURE.finditer(text)]
    parts, kept, at = [], [], 0
    for number, (start, end) in enumerate(disjoint(spans), start=1):
        parts += [text[at:start], f"[{number}]"]
        kept.append(text[start:end])
        at = end
    return "".join([*parts, text[at:]]), kept


def restore(text: str, kept: list[str]) -> str | None:
    """The text with what the marks stand for; `None` unless each mark is there exactly once."""
    found = [int(next(filter(None, match.groups()))) for match in _MARK.finditer(text)]
    if sorted(found) != list(range(1, len(kept) + 1)):
        return None
    return _MARK.sub(lambda match: kept[int(next(filter(None, match.groups()))) - 1], text)


def marks_kept(text: str, count: int) -> bool:
    """Whether a translation has each mark exactly once."""
    return restore(text, [""] * count) is not None


def has_prose(protected: str) -> bool:
    """Whether there is something to say in other words between the marks."""
    plain = _MARK.sub("", protected)
    return has_words(plain) and len(_BARE.sub("", plain)) > 1


def figures(text: str) -> Counter[str]:
    """The numbers of a text in digits, with their signs, as they are written; `５` and `⑤` are a 5."""
    return Counter(_NUMBER.findall(normalize("NFKC", text)))


def _equations(text: str) -> Counter[Equation]:
    return Counter(find_equations(text))


def _foreign_words(old: str, new: str) -> bool:
    """Whether words were left as they are in the other language: a catalyst in a Chinese sentence."""
    if detect_language(old) == "en":
        return bool(_CHINESE.search(new)) and not _CHINESE.search(old)
    return bool(set(_LATIN.findall(new.lower())) - set(_LATIN.findall(old.lower())))


def paraphrase_fault(old: str, new: str, answer: str = "") -> str | None:
    """Why `new` cannot stand for `old`; `None` if it can.

    It must have the same numbers in digits, each as often and as it was written; the same values where they are said
    in words; the same equations; the same formulas and code; the answer as often; the language, without words of the
    other one; no markup and no instruction of its own; and about the same length.

    Args:
        old: A step.
        new: The same in other words.
        answer: The record's answer.
    """
    if not new.strip():
        return "empty"
    if new.strip() == old.strip():
        return "unchanged"
    before, after = figures(old), figures(new)
    if before - after:
        return "lost figure"
    if after - before:
        return "new figure"
    said, says = stated_numbers(old) - _ARTICLES, stated_numbers(new) - _ARTICLES
    if said != says:
        return "lost figure" if said - says else "new figure"
    if _equations(old) != _equations(new):
        return "other equation"
    if Counter(old[a:b] for a, b in blocks(old)) != Counter(new[a:b] for a, b in blocks(new)):
        return "other formula"
    answer = answer.strip().strip("。.")
    if 1 < len(answer) <= _LONGEST_ANSWER and old.count(answer) != new.count(answer):
        return "other answer"
    if Counter(_MARKUP.findall(old)) != Counter(_MARKUP.findall(new)) or old.count("\n") != new.count("\n"):
        return "markup"
    if not _SHORTEST <= len(new) / len(old) <= _LONGEST:
        return "length"
    if detect_language(new) != detect_language(old) or _foreign_words(old, new):
        return "other language"
    if set(_PROMPT.findall(new.lower())) - set(_PROMPT.findall(old.lower())):
        return "instruction"
    return None
