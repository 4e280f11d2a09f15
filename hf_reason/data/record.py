"""The record: one reasoning example, whatever file it came from, and the raw trace it is made of."""

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from hf_reason._files import digest

if TYPE_CHECKING:
    import datasets

DOMAINS = ("finance", "medical", "legal", "science", "math", "code", "humanities", "general")
LANGUAGES = ("zh", "en", "mixed")

# A text is of one language when the other makes up at most this fraction of its words.
_MIXED_RATIO = 0.3
# Whole runs, so that a long text costs few matches.
_CHINESE = re.compile(r"[\u4e00-\u9fff\u3400-\u4dbf]+")
_LATIN_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


class DataError(ValueError):
    """Input data that cannot be used. The message says what is wrong, where, and how to fix it."""


class Record(TypedDict):
    """One reasoning example. Every prepared file has exactly these columns.

    Keys:
        id: Stable hash of context, task and answer (`record_id`).
        context: The problem with its background.
        task: What is asked of the reasoner; may be empty.
        steps: The chain, one step an item, without numbering; empty for a question without a chain.
        answer: The final answer.
        domain: One of `DOMAINS`.
        language: One of `LANGUAGES`.
        source: `"<file or data set>#<row>"`, rows counted from 1; empty if unknown.
    """

    id: str
    context: str
    task: str
    steps: list[str]
    answer: str
    domain: str
    language: str
    source: str


RECORD_FIELDS = tuple(Record.__annotations__)


@dataclass
class RawTrace:
    """A distilled trace as it was read, before segmentation and filters.

    Attributes:
        context: The problem with its background.
        task: What is asked of the reasoner; may be empty.
        thought: The chain as one text, or `None` when the source has steps already.
        steps: The chain as steps, or `None` when the source has prose.
        answer: The final answer.
        reference: The known correct answer, if the source has one.
        domain: The source's own name for the domain, as written there, or `None`.
        source: Where the trace comes from: `"<file or data set>#<row>"`, rows counted from 1.
        closed: `False` when the thought's closing tag is missing (a trace that was cut).
        truncated: `True` when the source itself says that the generation was cut (`finish_reason` length, and
            the like).
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
    truncated: bool = False


def cjk_ratio(text: str) -> float:
    """Fraction of Chinese among the words of `text`, in [0, 1].

    A Chinese character counts as one word and so does a run of Latin letters, so that a few English
    terms inside Chinese prose do not outweigh it. Formulas (LaTeX commands and single letters) are not
    words. A text with neither (only numbers, say) scores 1, since nothing in it is foreign.
    """
    chinese = sum(map(len, _CHINESE.findall(text)))
    latin = len(_LATIN_WORD.findall(text))
    return chinese / (chinese + latin) if chinese + latin else 1.0


def detect_language(text: str) -> str:
    """`"zh"`, `"en"` or `"mixed"`, by `cjk_ratio`."""
    ratio = cjk_ratio(text)
    if ratio >= 1 - _MIXED_RATIO:
        return "zh"
    return "en" if ratio <= _MIXED_RATIO else "mixed"


def clean_text(text: str) -> str:
    """Normalise line ends and Unicode composition and strip the outer white space."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def record_id(context: str, task: str, answer: str) -> str:
    """A stable hash (16 hex digits) of what makes an example the same example."""
    return digest("\x1f".join((context, task, answer)))


def make_record(
    context: str,
    steps: list[str],
    answer: str,
    *,
    task: str = "",
    domain: str = "general",
    language: str | None = None,
    source: str = "",
) -> Record:
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
