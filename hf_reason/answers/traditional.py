"""Traditional Chinese as simplified Chinese, by OpenCC's dictionaries."""

import re
from functools import lru_cache
from typing import Any

# OpenCC goes through UTF-8, which has no lone surrogates.
_SURROGATES = re.compile("([\ud800-\udfff]+)")


@lru_cache(maxsize=1)
def _converter() -> Any:
    from opencc import OpenCC

    # Without the rare simplified forms that most fonts and tokenizers do not have.
    return OpenCC("t2s", include_tofu_risk_dictionaries=False)


def simplified(text: str) -> str:
    """`text` with traditional characters as simplified ones; everything else stays.

    Words decide where a character has two readings (乾坤, 著名 stay; 乾淨 -> 干净). The length stays: positions in
    the result are positions in `text`. Linear time; the dictionaries load with the first text that is not ASCII.
    """
    if text.isascii():
        return text
    try:
        return str(_converter().convert(text))
    except UnicodeEncodeError:
        return "".join(
            part if _SURROGATES.fullmatch(part) else simplified(part) for part in _SURROGATES.split(text) if part
        )
