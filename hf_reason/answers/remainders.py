"""Quotients with a remainder: 5……2, 5余2, 每人3个还剩2个, 5 R 2, 5 remainder 2."""

import re
from fractions import Fraction

from .numerals import in_digits
from .values import Remainder

_UNIT = r"\s*[A-Za-z\u4e00-\u9fff]{0,3}?\s*"
_PATTERN = re.compile(
    rf"(?:商(?:是|为)?\s*)?(?<![\d.])(\d{{1,12}}){_UNIT}[,，;]?\s*(?:\(\s*)?"
    rf"(?:…+|(?<!\.)\.{{3,6}}|⋯+|[余剩]余?(?:数|下)?(?:是|为)?|还?[余剩]下?|(?:with\s+)?(?:a\s+)?remainder(?:\s+(?:of|is))?|(?<=[\d\s])[rR](?![a-z]))"
    rf"\s*(\d{{1,12}}){_UNIT}\)?(?![\d.])"
)


def read_remainder(text: str, anywhere: bool = False) -> Remainder | None:
    """A quotient and its remainder; `anywhere`: the last ones of a sentence, otherwise the text is nothing else."""
    text = in_digits(text.strip().rstrip("。. "))
    if len(text) > 2000:
        return None
    if not anywhere:
        match = _PATTERN.fullmatch(text)
    else:
        match = None
        for match in _PATTERN.finditer(text):  # noqa: B007
            pass
    return Remainder(Fraction(match[1]), Fraction(match[2])) if match else None
