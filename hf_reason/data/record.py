"""The record: one reasoning example, whatever file it came from, and the raw trace it is made of."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from hf_reason._files import digest

from .images import IMAGES, image_digest
from .languages import LANGUAGES, detect_language

if TYPE_CHECKING:
    import datasets

DOMAINS = ("finance", "medical", "legal", "science", "math", "code", "humanities", "general")

# The indent of a first line that does not begin with a Chinese character.
_INDENT = re.compile(r"(?:[ \t]*\n)*(?P<indent>(?:  |\t)[ \t]*)(?=[!-~])")


class DataError(ValueError):
    """Input data that cannot be used. The message says what is wrong, where, and how to fix it."""


class Record(TypedDict):
    """One reasoning example. Every prepared file has exactly these columns; those of images only where there are some.

    Keys:
        id: Stable hash of context, task, answer and images (`record_id`).
        context: The problem with its background.
        task: What is asked of the reasoner; may be empty.
        steps: The chain, one step an item, without numbering; empty for a question without a chain.
        answer: The final answer.
        domain: One of `DOMAINS`.
        language: One of `LANGUAGES`.
        source: `"<file or data set>#<row>"`, rows counted from 1; empty if unknown.
        images: Images of the problem, each `{"bytes", "path"}` (`hf_reason.data.images`). `<image>` in the context
            says where one stands; without it they stand before the text.
        captions: What the source says about each image; empty if it says nothing.
    """

    id: str
    context: str
    task: str
    steps: list[str]
    answer: str
    domain: str
    language: str
    source: str
    images: NotRequired[list[Any]]
    captions: NotRequired[list[str]]


IMAGE_FIELDS = (IMAGES, "captions")
RECORD_FIELDS = tuple(name for name in Record.__annotations__ if name not in IMAGE_FIELDS)


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
        images: Images of the problem, as in a record.
        captions: What the source says about each image; empty if it says nothing.
        image_faults: Why an image cannot be used, by its place in `images`.
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
    images: list[Any] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    image_faults: dict[int, str] = field(default_factory=dict)


def clean_text(text: str, keep_indent: bool = False) -> str:
    """Normalise line ends and Unicode composition and strip the outer white space.

    Args:
        text: Any text.
        keep_indent: Leave the indent of the first line where it is that of code: a tab, four spaces, or two where
            another line has more. The indent of a paragraph in Chinese goes.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    found = _INDENT.match(text) if keep_indent else None
    text = text.strip()
    if found is None:
        return text
    indent = found["indent"]
    deep = "\t" in indent or len(indent) >= 4 or f"\n{indent} " in text
    return indent + text if deep else text


def record_id(context: str, task: str, answer: str, images: Sequence[Any] = ()) -> str:
    """A stable hash (16 hex digits) of what makes an example the same example; of images their content counts."""
    return digest("\x1f".join((context, task, answer, *map(image_digest, images))))


def make_record(
    context: str,
    steps: list[str],
    answer: str,
    *,
    task: str = "",
    domain: str = "general",
    language: str | None = None,
    source: str = "",
    images: Sequence[Any] = (),
    captions: Sequence[str] = (),
) -> Record:
    """Build a record: texts cleaned, empty steps dropped, id and language filled in.

    Raises:
        DataError: if `domain` or `language` is not one the project knows, or an image cannot be read.
    """
    context, task, answer = (clean_text(text, keep_indent=True) for text in (context, task, answer))
    steps = [step for step in map(clean_text, steps) if step]
    language = language or detect_language("\n".join((*steps, answer)), f"{context}\n{task}")
    for name, value, known in (("domain", domain, DOMAINS), ("language", language, LANGUAGES)):
        if value not in known:
            raise DataError(f"{source or 'record'}: {name} {value!r} is not one of {', '.join(known)}.")
    record: Record = {
        "id": record_id(context, task, answer, images),
        "context": context,
        "task": task,
        "steps": steps,
        "answer": answer,
        "domain": domain,
        "language": language,
        "source": source,
    }
    if images:
        record |= {"images": list(images), "captions": list(captions)}
    return record


def record_features(images: bool = False) -> "datasets.Features":
    """The record's `datasets.Features`; every prepared file has exactly these columns.

    Args:
        images: With those of images. They are not decoded when a row is read: rows are read for their text, too.
    """
    from datasets import Features, Image, List, Value

    features = Features({n: List(Value("string")) if n == "steps" else Value("string") for n in RECORD_FIELDS})
    if images:
        features |= {"images": List(Image(decode=False)), "captions": List(Value("string"))}
    return features


def with_equal_columns(parts: "Sequence[datasets.Dataset]") -> "list[datasets.Dataset]":
    """Data sets of records that can be put together: where one has images, all have the columns."""
    if not any(IMAGES in part.column_names for part in parts):
        return list(parts)
    features, found = record_features(images=True), []
    for part in parts:
        for name in IMAGE_FIELDS:
            if name not in part.column_names:
                part = part.add_column(name, [[]] * len(part), feature=features[name])
        found.append(part)
    return found
