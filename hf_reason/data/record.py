"""The record: one reasoning example, whatever file it came from, and the raw trace it is made of."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

DOMAINS = ("finance", "medical", "legal", "science", "math", "code", "humanities", "general")
LANGUAGES = ("zh", "en", "mixed")
RECORD_FIELDS = ("id", "context", "task", "steps", "answer", "domain", "language", "source")

# A text counts as one language when the other one's share of its letters stays below this.
_MIXED_SHARE = 0.3
# Whole runs, so that a long text costs few matches.
_CHINESE = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf]+")
_LATIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


class DataError(ValueError):
    """Input data that cannot be used. The message says what is wrong, where, and the mend."""


@dataclass
class RawTrace:
    """A distilled trace as an adapter found it, before segmentation and filters.

    Attributes:
        context: The problem with its background.
        task: What is asked of the reasoner; may be empty.
        thought: The chain as one text, or `None` when the source has steps already.
        steps: The chain as steps, or `None` when the source has prose.
        answer: The final answer.
        reference: The known correct answer, if the source has one.
        domain: The source's own name for the domain, as it stands there, or `None`.
        source: Where the trace comes from: `"<file or data set>#<row>"`, rows counted from 1.
        closed: `False` when the thought's closing tag is missing (a trace that was cut).
    """

    context: str
    task: str = ""
    thought: str | None = None
    steps: list[str] | None = None
    answer: str = ""
    reference: str | None = None
    domain: str | None = None
    source: str = ""
    closed: bool = True


def cjk_share(text: str) -> float:
    """Share of Chinese among the words of `text`, in [0, 1].

    A Chinese character counts as one word and so does a run of Latin letters, so that a few English
    terms inside Chinese prose do not outweigh it. Formulas (LaTeX commands and single letters) are not
    words. A text with neither (only numbers, say) has share 1, since nothing in it is foreign.
    """
    chinese = sum(map(len, _CHINESE.findall(text)))
    latin = len(_LATIN_WORD.findall(text))
    return chinese / (chinese + latin) if chinese + latin else 1.0


def detect_language(text: str) -> str:
    """`"zh"`, `"en"` or `"mixed"`, by `cjk_share`."""
    share = cjk_share(text)
    if share >= 1 - _MIXED_SHARE:
        return "zh"
    return "en" if share <= _MIXED_SHARE else "mixed"


def clean_text(text: str) -> str:
    """Normalise line ends and Unicode composition and strip the outer white space."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def record_id(context: str, task: str, answer: str) -> str:
    """A stable hash (16 hex digits) of what makes an example the same example."""
    payload = "\x1f".join((context, task, answer)).encode()
    return hashlib.blake2b(payload, digest_size=8).hexdigest()


def make_record(
    context: str,
    steps: list[str],
    answer: str,
    *,
    task: str = "",
    domain: str = "general",
    language: str | None = None,
    source: str = "",
) -> dict[str, Any]:
    """Build a record: texts cleaned, empty steps dropped, id and language filled in.

    Raises:
        DataError: if `domain` or `language` is not one the project knows.
    """
    context, task, answer = clean_text(context), clean_text(task), clean_text(answer)
    steps = [step for step in map(clean_text, steps) if step]
    language = language or detect_language("".join(steps) + answer if steps else context + answer)
    for name, value, known in (("domain", domain, DOMAINS), ("language", language, LANGUAGES)):
        if value not in known:
            raise DataError(f"{source or 'record'}: {name} {value!r} is not one of {', '.join(known)}.")
    return {
        "id": record_id(context, task, answer),
        "context": context,
        "task": task,
        "steps": steps,
        "answer": answer,
        "domain": domain,
        "language": language,
        "source": source,
    }


def record_features() -> "datasets.Features":
    """The record's `datasets.Features`; every prepared file has exactly these columns."""
    from datasets import Features, List, Value

    return Features({name: List(Value("string")) if name == "steps" else Value("string") for name in RECORD_FIELDS})
