"""Texts reduced to what counts when two of them are compared.

There are two keys because they answer different questions. `normalise` keeps signs of arithmetic, since 3+5 and 3-5
are different problems; it is for duplicates and contamination. `letters_and_digits` keeps none, since near-copies of a
context must end up in one split even if they differ in their signs.
"""

import re
import unicodedata

from hf_reason._files import digest

# Signs of arithmetic and the point inside a number stay: 3.5 is not 35 and 3+5 is not 3-5.
_NOISE = re.compile(r"[\s,;:!?'\"“”‘’、。〈〉《》「」『』【】()\[\]…—_~`*#|]+|\.(?!\d)|(?<!\d)\.")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|[零二两三四五六七八九十百千万亿][零一二两三四五六七八九十百千万亿]*")


def normalise(text: str) -> str:
    """NFKC, lower case, without white space and punctuation. Digits and signs of arithmetic stay."""
    return _NOISE.sub("", unicodedata.normalize("NFKC", text).casefold())


def letters_and_digits(text: str) -> str:
    """NFKC, lower case, letters and digits only; `text` itself if nothing is left."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).lower())) or text


def numbers_of(text: str) -> tuple[str, ...]:
    """The numbers of a text in order (Arabic, and Chinese other than 一, which is mostly no number)."""
    return tuple(_NUMBER.findall(unicodedata.normalize("NFKC", text)))


def hash64(text: str) -> int:
    """A stable hash of a text, as an unsigned 64-bit integer."""
    return int.from_bytes(bytes.fromhex(digest(text)), "little")
