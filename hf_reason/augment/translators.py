"""Translators: texts from one language to another, in batches, each text once and kept on disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from hf_reason._files import digest
from hf_reason._journal import Journal
from hf_reason.text.render import CLOSE_TAG, split_completion
from hf_reason.traces.generate import Writer
from hf_reason.traces.settings import Job

# How a chat model is asked; the language of the task is that of the text.
PROMPTS = {
    ("zh", "en"): "把下面这句话翻译成英文。方括号里的编号(如 [1])代表数字或算式,请原样保留。只输出译文。\n\n{text}",
    ("en", "zh"): "Translate this sentence into Chinese. Numbers in square brackets such as [1] stand for figures: "
    "keep each of them as it is. Give nothing but the translation.\n\n{text}",
}
_QUOTES = (("“", "”"), ('"', '"'), ("「", "」"), ("'", "'"))


# Called with a description and a number of texts; gives a function that is called with how many more are there.
Progress = Callable[[str, int], Callable[[int], None]]


class Translator(Protocol):
    """Translates.

    Attributes:
        identity: What tells its translations from those of another one. Plain values.
        failures: What was said about texts that it gave up, and how often.
    """

    identity: dict[str, Any]
    failures: dict[str, int]

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[tuple[int, str]]]:
        """The index of each text and its translation, in any order, some at a time; one that failed is left out."""


class ChatTranslator:
    """A chat model, in this process or behind a server: what writes samples of `generate-traces` also translates.

    Args:
        writer: `hf_reason.traces.LocalWriter` or `ServedWriter`, without instructions.
        identity: What tells its model and sampling from another one.
        seed: Of the samples, where it samples.
    """

    def __init__(self, writer: Writer, identity: Mapping[str, Any], *, seed: int = 0) -> None:
        self.writer, self.seed = writer, seed
        self.identity = {**identity, "prompts": digest(*PROMPTS.values()), "seed": seed}

    @property
    def failures(self) -> dict[str, int]:
        """What was said about texts that were given up."""
        return self.writer.failures

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[tuple[int, str]]]:
        """See `Translator`. An output that was cut has no translation: it is empty."""
        prompt = PROMPTS[source, target]
        jobs = []
        for index, text in enumerate(texts):
            record = {"id": str(index), "context": prompt.format(text=text)}
            jobs.append(Job(record, 0, int(digest(f"{self.seed}/{text}"), 16) & 0x7FFFFFFF))
        for rows in self.writer.write(jobs):
            yield [(int(row["id"]), translation_in(row["content"]) if row["ended"] else "") for row in rows]


def translation_in(output: str) -> str:
    """What a chat model gives as the translation: without its thought, and without quotes around all of it."""
    text = split_completion(output)[2] if CLOSE_TAG in output else output
    text = text.strip()
    for opening, closing in _QUOTES:
        inner = text[1:-1]
        if text[:1] == opening and text[1:].endswith(closing) and opening not in inner and closing not in inner:
            return inner.strip()
    return text


class Translations:
    """The translations of a translator on disk. A kill loses none, and no text is translated twice.

    Args:
        folder: Where they are kept; another translator has another file there.
        translator: Makes what is missing.
    """

    def __init__(self, folder: str | Path, translator: Translator) -> None:
        self.translator = translator
        name = digest(repr(sorted(translator.identity.items())))
        self.journal = Journal(Path(folder) / f"translations-{name}.jsonl", translator.identity, key=("key",))

    def fill(self, texts: Iterable[str], source: str, target: str, progress: Progress | None = None) -> None:
        """Translate those texts that are not there yet."""
        missing = [text for text in dict.fromkeys(texts) if (_key(text, source, target),) not in self.journal]
        if not missing:
            return
        note = progress(f"{source} -> {target}", len(missing)) if progress is not None else None
        for found in self.translator.translate(missing, source, target):
            rows = [{"key": _key(missing[index], source, target), "text": text} for index, text in found]
            self.journal.add(rows)
            if note is not None:
                note(len(rows))

    def get(self, text: str, source: str, target: str) -> str | None:
        """The translation; `None` if there is none."""
        name = (_key(text, source, target),)
        return self.journal.read([name])[0]["text"] if name in self.journal else None


def _key(text: str, source: str, target: str) -> str:
    return digest(source, "\0", target, "\0", text, size=16)
