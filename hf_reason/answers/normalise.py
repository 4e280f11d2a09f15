"""One writing for the same signs: superscripts, full width, traditional characters, LaTeX around a value."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, wraps

from .currency import amounts
from .traditional import simplified

_GLUED = re.compile(r"(?<=\d)(or|and)(?=[A-Za-z](?:\W|$))")
# 1'234'567, as in Switzerland
_APOSTROPHE = re.compile(r"(?<=\d)['’](?=\d{3}(?!\d))")
_MAX_KEPT = 1000
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
# 參 simplified is 参; as a numeral it is 叁.
_CAPITAL_THREE = re.compile("参(?=[拾佰仟萬億万亿圆元角分整])|(?<=[拾佰仟])参")
_SUPERSCRIPT = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUBSCRIPT = re.compile("[₀-₉]+")
VULGAR = re.compile("[¼-¾⅐-⅞]")
# "\\\\frac" where somebody has escaped a backslash twice.
_ESCAPED = re.compile(r"\\\\(?=[A-Za-z]{2})")
# 10~20 is a range; between words ~ is a space of LaTeX.
_RANGE = re.compile(r"(?<=[\d%\u4e00-\u9fff])\s*(?:~|〜|∼|～|\\sim(?![a-z]))\s*(?=-?\d)")
_ROOTS = (("³√", "∛"), ("⁴√", "∜"), ("∛", "\\sqrt[3]"), ("∜", "\\sqrt[4]"))
_ROOT = re.compile(r"(\\sqrt\[[34]\])\s*(\d+)")
_SYSTEM = re.compile(
    r"(?:\\left\s*)?(?:\\?\{\s*)?\\begin\{(?:cases|aligned|array|matrix)\}(?:\{[lcr|]*\})?(.{0,400}?)\\end\{(?:cases|aligned|array|matrix)\}(?:\s*\\right\s*\.)?",
    re.DOTALL,
)
_NAMED_SIGNS = [
    (re.compile(r"\\triangle(?![a-z])\s*"), "△"),
    (re.compile(r"\\angle(?![a-z])\s*"), "∠"),
    (re.compile(r"\\(?:colon|ratio)(?![a-z])\s*"), ":"),
    (re.compile(r"\\parallel(?![a-z])\s*|(?<=[A-Z])\s*//\s*(?=[A-Z])"), "∥"),
    (re.compile(r"\\perp(?![a-z])\s*"), "⊥"),
]
_THIN = re.compile(r"(?<!\s)\s*\{,\s*\}\s*|,\s*\\!\s*")
_CIRCLED = re.compile("([①-⑳])")
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|textrm|operatorname)\s*\{([^{}]*)\}")
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|qquad|quad|bigl?|bigr?|Bigl?|Bigr?|limits)(?![a-z])"
    r"|\\[,;:! ]|~|<\|\w+\|>"
)


def _remembered(function: Callable[[str], str]) -> Callable[[str], str]:
    """`function` with its last short texts kept: one comparison folds the same text many times."""
    kept = lru_cache(maxsize=256)(function)

    @wraps(function)
    def call(text: str) -> str:
        return kept(text) if len(text) <= _MAX_KEPT else function(text)

    return call


def joined_digits(text: str) -> str:
    """Thousands in LaTeX (11,\\! 111 and 14{,}916) or set apart by apostrophes, with plain commas."""
    text = _THIN.sub(",", text) if "{" in text or "!" in text else text
    return _APOSTROPHE.sub(",", text) if "'" in text or "’" in text else text


def vulgar(match: re.Match[str]) -> str:
    return "(" + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/") + ")"


@_remembered
def fold(text: str) -> str:
    """NFKC, but 3² stays a power, 2½ a mixed number and ① a mark of its own; subscripts become `_1`."""
    if "\\" in text or "//" in text:
        for pattern, sign in _NAMED_SIGNS:
            text = pattern.sub(sign, text)
    if "~" in text or "\\sim" in text:
        text = _RANGE.sub("至", text)
    if text.isascii():
        return text
    for sign, plain in _ROOTS if "√" in text or "∛" in text or "∜" in text else ():
        text = text.replace(sign, plain)
    text = _CAPITAL_THREE.sub("叁", simplified(text))
    text = _SUPERSCRIPT.sub(lambda match: "^" + _power("".join(_RAISED[char] for char in match[0])), text)
    text = _SUBSCRIPT.sub(lambda match: "_" + match[0].translate(_LOWERED), text)
    text = VULGAR.sub(vulgar, text)
    parts = [
        part if _CIRCLED.fullmatch(part) else unicodedata.normalize("NFKC", part) for part in _CIRCLED.split(text)
    ]
    return "".join(parts).replace("−", "-").replace("–", "-").replace("˙", "\u0307")


def _power(text: str) -> str:
    return text if len(text) == 1 else "{" + text + "}"


def _rows(match: re.Match[str]) -> str:
    """The rows of a system of equations as a list; an array that is a matrix (several cells a row) stays."""
    rows = [row.strip(" ,;，；") for row in re.split(r"\\\\", match[1]) if row.strip()]
    if not rows or not all(re.search(r"[=<>≤≥]|\\[lg]e", row) for row in rows):
        return match[0]
    return " ; ".join(row.replace("&", "") for row in rows)


@_remembered
def undressed(text: str) -> str:
    """A formula without the signs around it (`$`, `\\(`) and in it (`\\left`, `\\,`, `\\text{...}`)."""
    text = _ROOT.sub(r"\1{\2}", fold(amounts(joined_digits(text))))
    if "\\begin" in text:
        text = _SYSTEM.sub(_rows, text)
    if "\\begin" not in text:
        text = _LAYOUT.sub(" ", _ESCAPED.sub(r"\\", text))
    if "\\" in text:
        for _ in range(3):
            text, count = _WRAPPER.subn(r" \1 ", text)
            if not count:
                break
        text = re.sub(r"\\[()\[\]]", " ", text)
    text = (
        text.replace("$", " ").replace("**", " ") if not re.search(r"\*\*\s*[\d(]", text) else text.replace("$", " ")
    )
    text = _GLUED.sub(r" \1 ", text)
    text = re.sub(r"(?<!\s)\s+\^(?=\{?[23])", "^", text)
    return text.strip(" \t\n。,，;；、").rstrip(" .")
