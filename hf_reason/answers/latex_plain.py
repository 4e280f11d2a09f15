"""Arithmetic written in LaTeX, full-width signs, bold type or mixed numbers, put into plain signs."""

import re

_FULL_WIDTH = str.maketrans(
    "０１２３４５６７８９＋－＊／＝（）［］％．＄￥：＾−–✕✖⋅∙∗≒∶", "0123456789+-*/=()[]%.$¥:^--×××××≈:"
)
_LATEX = [
    (re.compile(r"\\[cdt]?frac\s*(\d)\s*(\d)"), r"(\1/\2)"),
    (re.compile(r"\\(?:times|ast)(?![a-z])"), "×"),
    (re.compile(r"\\div(?![a-z])"), "÷"),
    (re.compile(r"\\cdot(?![a-z])"), "×"),
    (re.compile(r"\\approx(?![a-z])"), "≈"),
    (re.compile(r"\\[cl]?dots(?![a-z])"), "…"),
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-z])|\\[,;:! \[\]()]|\\\$"), " "),
    (re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed|fbox)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\(?:begin|end)\s*\{[a-z*]+\}"), "\n"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\^\{(-?\d+)\}"), r"^\1"),
    (re.compile(r"\\\\\s*+(?=&?\s*+=)|&(?==)"), " "),
]
_FRAC = re.compile(r"\\[cdt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
# Two stars are a power between numbers and bold type everywhere else.
_BOLD = re.compile(r"(?<![\d)\s])\s*\*\*|^[ \t]*\*\*|\*\*(?!\s*[-\d(])", re.MULTILINE)
_ENGLISH_MIXED = re.compile(r"(?<![\d./)])(\d{1,9})(?: | and )\(?(\d{1,9})/(\d{1,9})\)?(?![\d/.])")
# "28 / 1/5": the spaces say that 1/5 is one number.
_SPACED_DIVISION = re.compile(r"(?<=[\d)]) / (?=\d+/\d+(?![\d/]))")
# The run of white space is tried from its beginning alone, so that many blank lines cost linear time.
_CONTINUED = re.compile(r"(?<!\s)\s*\n[ \t&]*(?==)")
_BARE_FRACTION = re.compile(r"\d+")


def clean_markup(text: str) -> str:
    """LaTeX and full-width arithmetic in plain signs; an equation that continues in the next line is joined."""
    text = text.translate(_FULL_WIDTH)
    if "\\" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
        # Nested fractions open from the inside; three levels are more than a step ever has.
        for _ in range(3):
            text, count = _FRAC.subn(_plain_fraction, text)
            if not count:
                break
    if "**" in text:
        text = _BOLD.sub(" ", text)
    if "又" in text:
        text = re.sub(r"(\d+)又\(?(\d+)/(\d+)\)?", r"\1(\2/\3)", text)
    text = _SPACED_DIVISION.sub(" ÷ ", text)
    text = _ENGLISH_MIXED.sub(_mixed_number, text)
    return _CONTINUED.sub("", text)


def _mixed_number(match: re.Match[str]) -> str:
    whole, upper, lower = match.groups()
    return f"{whole}({upper}/{lower})" if int(upper) < int(lower) else match[0]


def _plain_fraction(match: re.Match[str]) -> str:
    upper, lower = match[1].strip(), match[2].strip()
    if _BARE_FRACTION.fullmatch(upper) and _BARE_FRACTION.fullmatch(lower):
        return f"({upper}/{lower})"
    return f"(({upper})/({lower}))"
