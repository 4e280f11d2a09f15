"""One problem as keys, and whether one is in another."""

import re
from collections import Counter
from functools import cached_property

from .problem_parts import Parts

_SHORT_GRAM = 3
# Fractions of the n-grams from which a text contains a problem, see `Decontaminator`.
_WITHOUT_NUMBERS = 0.8
_WITH_NUMBERS = 0.6
_SHORT_GRAMS = 0.55
_LEAST_GRAMS = 12
_OPTIONS = 0.6
_OF_A_LINE = 0.5
# A text is "not much longer" than a problem up to this factor and these characters.
_FACTOR, _MORE = 1.5, 40
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIGN = re.compile(r"[-+*/^=<>≤≥≠()|√%](?=[\d(a-z√-])|(?<=[\d)])[!%]")
# A formula by itself, and the words around it that ask for its value.
_FORMULA = re.compile(r"[\d.a-z+\-*/^=<>≤≥≠()|√%!,:πθ{}\\]+")
_ASKING = re.compile(
    "请|求[a-z](?![a-z(])|用?简便方法|直接写出得数|计算|求解|求值|求|口算|笔算|列竖式|脱式|递等式|解方程组?|解|化简|等于(?:多少|几)?|得(?:多少|几)"
    "|是(?:多少|几)|的?结果|的?值|下面|下列|各题|这道题?|算式|算一算|一下|问题|题目|多少|方程|whatis|whats|calculate|compute|evaluate|simplify|solve"
    "|findthevalueof|thevalueof|theresultof|find|please|equation|forx|theanswerto|answer|result"
)
_LETTERS = re.compile("[a-z]{4,}")
# Words that say what is done with the numbers. One name for each meaning, whatever the wording.
_RELATIONS = re.compile(
    r"(?P<left>剩|\bleft\b|\bremain)"
    r"|(?P<sum>一共|总共|共|合计|总[数和]|之和|\b(?:altogether|total|in all|combined|sum)\b)"
    r"|(?P<less>(?<!多)少|\b(?:less|fewer)\b)|(?P<more>多(?!少)|\b(?:more|greater|older|longer|taller)\b)"
    r"|(?P<times>倍|\b(?:times|twice|double|triple)\b)|(?P<half>一半|\bhalf\b)|(?P<per>每|各|\b(?:each|every|per)\b)"
    r"|(?P<mean>平均|\b(?:average|mean)\b)|(?P<difference>相差|之差|\bdifference\b)|(?P<area>面积|\barea\b)"
    r"|(?P<perimeter>周长|\b(?:perimeter|circumference)\b)|(?P<volume>体积|容积|\bvolume\b)"
    r"|(?P<largest>最[大多高长]|\b(?:largest|maximum|greatest|most)\b)"
    r"|(?P<smallest>最[小少低短]|\b(?:smallest|minimum|least)\b)"
    r"|(?P<product>乘积|之积|\bproduct of\b)|(?P<quotient>之商|\bquotient\b)|(?P<ratio>比例|之比|\bratio\b)"
    r"|(?P<probability>概率|\bprobability\b)|(?P<percent>百分|\bpercent)"
    r"|(?P<square>平方(?![千厘分公米])|\bsquared?\b)|(?P<cube>立方(?![厘分公米])|\bcubed?\b)"
    r"|(?P<bought>[买购]|\b(?:bought|buys?)\b)|(?P<sold>[卖售]|\b(?:sold|sells?)\b)"
    r"|(?P<negation>不是|没有|不(?=[能会是可])|\bnot\b|n't\b)"
)


class ProblemKeys:
    """A problem, or a text that may contain one.

    Args:
        parts: The parts of it.
        ngram: Characters of an n-gram.
    """

    def __init__(self, parts: Parts, ngram: int):
        self.text, self.options, self.generic = parts.stem, parts.options, parts.generic
        self._words, self._lines = parts.words, parts.lines
        self._ngram = ngram
        self.grams = _grams(self.text, ngram)
        self.formula = _formula(self.text)

    @property
    def sample(self) -> set[int]:
        """About a fourth of the n-grams, chosen by their last character: the same in every process."""
        text, size = self.text, self._ngram
        return {hash(text[end - size : end]) for end in range(size, len(text) + 1) if not ord(text[end - 1]) & 3}

    @cached_property
    def numbers(self) -> Counter[str]:
        found = _NUMBER.findall(self.text)
        return Counter((number.rstrip("0").rstrip(".") if "." in number else number) for number in found)

    @cached_property
    def sorted_numbers(self) -> tuple[str, ...]:
        return tuple(sorted(self.numbers.elements()))

    @cached_property
    def signs(self) -> Counter[str]:
        return Counter(_SIGN.findall(self.text))

    @cached_property
    def relations(self) -> Counter[str | None]:
        return Counter(match.lastgroup for match in _RELATIONS.finditer(self._words))

    @cached_property
    def short_grams(self) -> set[int]:
        return _grams(self.text, _SHORT_GRAM)

    def is_in(self, text: "ProblemKeys") -> bool:
        """Whether `text` contains this problem or one that is nearly the same."""
        if self.formula or not self.options_in(text):
            return False
        held = len(self.grams & text.grams) / len(self.grams) if self.grams else 0.0
        if held == 1 and self.text in text.text:
            return True
        enough = _WITH_NUMBERS if self.numbers and len(self.grams) >= _LEAST_GRAMS else _WITHOUT_NUMBERS
        if held >= enough:
            return self._same_calculation(text) and self._has_lines(text)
        if sum(self.numbers.values()) < 2 or not self._as_long_as(text) or not self.numbers <= text.numbers:
            return False
        if len(self.short_grams & text.short_grams) < _SHORT_GRAMS * len(self.short_grams):
            return False
        return self._same_calculation(text)

    def _has_lines(self, text: "ProblemKeys") -> bool:
        """Whether no line of the problem is missing: the same passage with another question is another problem."""
        lines = [_grams(line, self._ngram) for line in self._lines] if len(self._lines) > 1 else []
        return all(len(line & text.grams) >= _OF_A_LINE * len(line) for line in lines)

    def options_in(self, text: "ProblemKeys") -> bool:
        """Whether the options allow that `text` is this problem."""
        if self.options and text.options:
            return len(self.options & text.options) >= _OPTIONS * len(self.options)
        return not self.generic

    def _same_calculation(self, text: "ProblemKeys") -> bool:
        if not self.numbers <= text.numbers or not self.signs <= text.signs or not self.relations <= text.relations:
            return False
        if not self.numbers or not self._as_long_as(text):
            return True
        # A text of the same length that does more with the same numbers is another problem.
        return self.relations == text.relations and (self.numbers != text.numbers or self.signs == text.signs)

    def _as_long_as(self, text: "ProblemKeys") -> bool:
        return len(text.text) <= _FACTOR * len(self.text) + _MORE


def _grams(text: str, size: int) -> set[int]:
    return {hash(text[at : at + size]) for at in range(len(text) - size + 1)}


def _formula(text: str) -> str:
    """The formula that a text asks the value of, or nothing if there are other words in it."""
    if len(text) > 120:
        return ""
    left = _ASKING.sub("", text).strip(".,:;")
    if not _FORMULA.fullmatch(left) or not re.search(r"\d", left) or _LETTERS.search(left):
        return ""
    return left.rstrip("=").strip("?")
