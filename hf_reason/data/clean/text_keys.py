"""What of a text counts when two texts are compared: its characters without layout, and its numbers."""

import re
import unicodedata

# Signs of arithmetic and the point inside a number stay: 3.5 is not 35 and 3+5 is not 3-5.
_NOISE = re.compile(r"[\s,;:!?'\"“”‘’、。〈〉《》「」『』【】()\[\]…—_~`*#|]+|\.(?!\d)|(?<!\d)\.")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|[零二两三四五六七八九十百千万亿][零一二两三四五六七八九十百千万亿]*")


def normalise(text: str) -> str:
    """NFKC, lower case, without white space and punctuation. Digits and arithmetic signs are content and stay."""
    return _NOISE.sub("", unicodedata.normalize("NFKC", text).casefold())


def numbers_of(text: str) -> tuple[str, ...]:
    """The numbers of a text in their order (Arabic, and Chinese other than 一, which is mostly no number)."""
    return tuple(_NUMBER.findall(unicodedata.normalize("NFKC", text)))
