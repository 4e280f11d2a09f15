"""Texts reduced to what counts when two of them are compared. Only keys are made: no record's text is changed.

There are three keys because they answer different questions. `normalise` keeps what makes a formula, since (2+3)×4
and 2+3×4 are different problems; it is for problems, in the search for duplicates and contamination.
`without_punctuation` is a cheaper one for chains. `letters_and_digits` keeps no sign, since near-copies of a context
must end up in one split even if they differ in their signs. All read traditional Chinese as simplified.
"""

import re
import unicodedata
from functools import lru_cache

import numpy as np

from hf_reason._files import digest
from hf_reason.answers.traditional import simplified

from .ngrams import code_points

# Signs with several writings, before NFKC makes x² to x2.
_WRITINGS = dict(zip("×✕✖∙⋅∗÷∕−–‒∶≦≧", "******//---:≤≥", strict=True))
_SIGNS = re.compile(f"[{''.join(_WRITINGS)}¼-¾⅐-⅞]|[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
# Commands of LaTeX as the signs that people type, or as nothing; others stay as they are.
_COMMANDS = {
    **dict.fromkeys(("times", "cdot", "ast"), "*"),
    **dict.fromkeys(("leq", "le", "leqslant"), "≤"),
    **dict.fromkeys(("geq", "ge", "geqslant"), "≥"),
    **dict.fromkeys(("neq", "ne"), "≠"),
    **dict.fromkeys(("left", "right", "displaystyle", "limits", "quad", "qquad", "big", "bigg"), " "),
    **dict.fromkeys(("text", "textbf", "mathrm", "mathbf", "mbox", *",;:! ()[]\\"), " "),
    **{"div": "/", "sqrt": "√", "pi": "π", "%": "%", "{": "{", "}": "}"},
}
_COMMAND = re.compile(r"\\([a-z]+|[^a-z])")
_FRACTION = re.compile(r"\\[dtc]?frac(?:\s*(\d)\s*(\d)|\s*\{([^{}]*)\}\s*\{([^{}]*)\})")
_ONE_TOKEN = re.compile(r"([\^√_])\s*\{\s*(\w+)\s*\}")
# 2**3 and 2^3 are the same; ** elsewhere is Markdown.
_POWER = re.compile(r"(?<=[\d)a-z])\s?\*\*\s?(?=[\d(a-z])")
# What stands between two numbers keeps them apart: 3, 5 and 3、5 and 3 5 are not 35, but 1,000 is 1000.
_BETWEEN_NUMBERS = re.compile(r"(\d)(\.?[\s,;、]+)(?=(\d+))")
_NOISE = re.compile(r"[\s;?'\"“”‘’、。〈〉《》「」『』【】…—~`#$·]+")
_PUNCTUATION = re.compile(_NOISE.pattern[:-2] + r",:!()\[\]{}|_*\\]")
# Signs that are noise in prose and count in arithmetic, and brackets around words: 72(本) is 72本, (2+3) is not 2+3.
# Each alternative begins with its sign, which lets `re` skip to the next one.
_PROSE = re.compile(
    r"[.,:](?:(?!\d)|(?<!\d.))|__+|_(?:(?!\w)|(?<!\w_))|!(?<![\dn)]!)|-(?![\d(√π]|[a-z](?![a-z]))"
    r"|\*(?:(?![\d(a-z√π])|(?<![\d)a-zπ]\*))|\|(?![\da-z(-])|[(\[]([^()\[\]\da-z+\-*/^=<>≤≥√π]*)[)\]]"
)
_LAST = 0xFFFF  # no punctuation is beyond
_NUMBER = re.compile(r"\d+(?:\.\d+)?|[零二两三四五六七八九十百千万亿][零一二两三四五六七八九十百千万亿]*")


def folded(text: str) -> str:
    """NFKC, lower case, simplified characters; powers stay powers (x² is x^2) and signs get one writing (× is *)."""
    if not text.isascii():
        text = simplified(unicodedata.normalize("NFKC", _SIGNS.sub(_sign, text)))
    return text.lower()


def _sign(match: re.Match[str]) -> str:
    sign = match[0]
    if sign in _WRITINGS:
        return _WRITINGS[sign]
    plain = unicodedata.normalize("NFKC", sign)
    return plain.replace("\u2044", "/") if "\u2044" in plain else "^" + plain


def normalise(text: str) -> str:
    """`folded`, without white space and the punctuation of prose; formulas stay, LaTeX or not.

    Digits, signs of arithmetic, decimal points, ratios and brackets with a formula in them stay; 1,000 is 1000.
    """
    text = folded(text)
    if "\\" in text or "$" in text:
        text = _FRACTION.sub(lambda match: f"{match[1] or match[3]}/{match[2] or match[4]}", text)
        text = _ONE_TOKEN.sub(r"\1\2", _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), text))
    if "**" in text:
        text = _POWER.sub("^", text)
    text = _NOISE.sub("", _BETWEEN_NUMBERS.sub(_between_numbers, text))
    return _PROSE.sub(_inside_brackets, text)


def _between_numbers(match: re.Match[str]) -> str:
    return match[1] if match[2] == "," and len(match[3]) == 3 else match[1] + ","


def _inside_brackets(match: re.Match[str]) -> str:
    return match[1] or ""


def without_punctuation(text: str) -> str:
    """NFKC, lower case, simplified, without white space, punctuation and brackets; signs of arithmetic stay."""
    codes = code_points(simplified(unicodedata.normalize("NFKC", text)).lower())
    kept = codes[_is_content()[np.minimum(codes, _LAST)]]
    return kept.tobytes().decode("utf-32-le", "surrogatepass")


@lru_cache(maxsize=1)
def _is_content() -> np.ndarray:
    """Whether a code point is no punctuation, bool, [65536]; a quarter of the time of a regular expression."""
    return np.array([not _PUNCTUATION.match(chr(code)) for code in range(_LAST + 1)])


def letters_and_digits(text: str) -> str:
    """NFKC, lower case, simplified, letters and digits only; `text` itself if nothing is left."""
    return "".join(filter(str.isalnum, simplified(unicodedata.normalize("NFKC", text)).lower())) or text


def numbers_of(text: str) -> tuple[str, ...]:
    """The numbers of a text in order (Arabic, and Chinese other than 一, which is mostly no number)."""
    return tuple(_NUMBER.findall(simplified(unicodedata.normalize("NFKC", text))))


def hash64(text: str) -> int:
    """A stable hash of a text, as an unsigned 64-bit integer."""
    return int.from_bytes(bytes.fromhex(digest(text)), "little")
