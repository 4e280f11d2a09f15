"""Images in words: copies of records whose images are described in the context, for models that read text alone."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_reason._files import digest
from hf_reason._journal import Journal
from hf_reason.data.images import IMAGES, MARK, ImageError, ImageReference, image_digest, marks_in, open_image
from hf_reason.data.output_folder import alone_in
from hf_reason.data.record import record_id

from .captioners import Captioner
from .operation import LeftOut, Made, check_fraction
from .translators import Progress

# In one go: images, and bytes of those that are no files.
_CHUNK, _CHUNK_BYTES = 256, 64 << 20
_LABELS = {"zh": ("图片", ":", "【{}】"), "en": ("Image", ": ", "[{}]")}
# What would be read as something else than a description.
_MARKUP = re.compile(rf"</?think>|{MARK}|<\|[^|>\n]{{1,40}}\|>")


class Captions:
    """Copies of records whose images are described in the context. Task, steps and answer are not touched.

    A description stands where the image stood (`<image>`), or before the text. What it says is part of the problem
    from then on: the provenance says that the context was extended. A copy has no images.

    Args:
        captioner: Describes images; `None`: the data's own captions are used.
        cache: Folder of the descriptions.
        fraction: Of the training records with images.
        everywhere: Describe the images of the other splits, too, whose records are replaced by their copies: for data
            of which no image is to be left.
        broken: What becomes of a record with an image that cannot be read: `drop` or `keep`.
        progress: See `hf_reason.augment.translators.Progress`.

    Raises:
        ValueError: for a fraction out of range, or another word than those.
    """

    name, file = "captions", ""

    def __init__(
        self,
        captioner: Captioner | None,
        cache: str | Path,
        fraction: float = 1.0,
        *,
        everywhere: bool = False,
        broken: str = "drop",
        progress: Progress | None = None,
    ) -> None:
        self.fraction = check_fraction("captions", fraction)
        if broken not in ("drop", "keep"):
            raise ValueError(f"broken_images must be drop or keep, got {broken!r}.")
        self.captioner, self.cache, self.everywhere, self.broken = captioner, Path(cache), everywhere, broken
        self.progress = progress
        self.parts: Counter[str] = Counter()
        self._faults: dict[str, str] = {}
        self._journal: Journal | None = None

    @property
    def failures(self) -> dict[str, int]:
        """What was said about images that the captioner gave up, and how often."""
        return dict(self.captioner.failures) if self.captioner is not None else {}

    def settings(self) -> dict[str, Any]:
        """What shapes its rows."""
        identity = "captions of the data" if self.captioner is None else self.captioner.identity
        return {"captioner": identity, "broken_images": self.broken, "everywhere": self.everywhere}

    def candidates(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """The ids of the records that have images; the fraction is one of them."""
        return [record["id"] for record in records if record.get(IMAGES)]

    def prepare(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Describe the images of all records, each once.

        Raises:
            DataError: if another run is writing to the cache.
        """
        if self.captioner is None:
            return
        with alone_in(self.cache):
            identity = self.captioner.identity
            name = digest(repr(sorted(identity.items())))
            self._journal = Journal(self.cache / f"captions-{name}.jsonl", identity, key=("key",))
            wanted: dict[str, tuple[ImageReference, str]] = {}
            weight = 0
            for record in records:
                for image in record.get(IMAGES) or ():
                    if (key := self._key(image, record)) is None or key in wanted or (key,) in self._journal:
                        continue
                    wanted[key] = (image, _language(record))
                    weight += len(image["bytes"] or b"")
                    if len(wanted) >= _CHUNK or weight >= _CHUNK_BYTES:
                        self._describe(wanted)
                        wanted, weight = {}, 0
            self._describe(wanted)

    def _key(self, image: ImageReference, record: Mapping[str, Any]) -> str | None:
        """The name of a description: the image's content, and the language; `None` if the file cannot be read."""
        try:
            content = image_digest(image)
        except ImageError as error:
            self._faults[str(error)] = str(error)
            return None
        asked = self.captioner is not None and self.captioner.is_asked
        return digest(content, "\0", _language(record) if asked else "", size=16)

    def _describe(self, wanted: Mapping[str, tuple[ImageReference, str]]) -> None:
        """Describe images, and write the descriptions down as they come."""
        assert self.captioner is not None and self._journal is not None
        keys, images, languages = [], [], []
        for key, (image, language) in wanted.items():
            try:
                open_image(image).close()
            except ImageError as error:
                self._faults[key] = str(error)
                continue
            keys.append(key)
            images.append(image)
            languages.append(language)
        if not keys:
            return
        note = self.progress("captions", len(keys)) if self.progress is not None else None
        for found in self.captioner.describe(images, languages):
            self._journal.add([{"key": keys[index], "text": text} for index, text in found])
            if note is not None:
                note(len(found))

    def apply(self, record: Mapping[str, Any], seed: int) -> list[Made] | str | LeftOut:
        """The copy; why there is none; or why the record is left out."""
        images = record.get(IMAGES) or []
        if not images:
            return "no images"
        texts: list[str] = []
        given = list(record.get("captions") or ())
        for place, image in enumerate(images):
            text, fault = self._caption(image, record, given[place] if place < len(given) else "")
            if fault is not None:
                self.parts[fault] += 1
                broken = fault == "an image that cannot be read"
                return LeftOut(fault) if broken and self.broken == "drop" else fault
            texts.append(text)
        self.parts["images described"] += len(texts)
        if marks_in(record["context"]) not in (0, len(texts)):
            return f"another number of {MARK} than of images"
        context = with_captions(str(record["context"]), texts, _language(record))
        name = record_id(context, record.get("task") or "", record["answer"])
        copy = {**record, "id": name, "context": context, IMAGES: [], "captions": []}
        by = "the data" if self.captioner is None else self.captioner.identity["model"]
        count = f"{len(texts)} image{'s' if len(texts) > 1 else ''}"
        return [Made(copy, f"context extended: {count} described by {by}")]

    def _caption(self, image: ImageReference, record: Mapping[str, Any], given: str) -> tuple[str, str | None]:
        """The description of an image, or what is wrong with it."""
        if self.captioner is None:
            text = given
            if not text.strip():
                return "", "no caption in the data"
        else:
            assert self._journal is not None
            key = self._key(image, record)
            if key is None or key in self._faults:
                return "", "an image that cannot be read"
            if (key,) not in self._journal:
                return "", "not described"
            text = self._journal.read([(key,)])[0]["text"]
        text = text.strip()
        if not text:
            return "", "a description that is empty or was cut"
        return (text, None) if _MARKUP.search(text) is None else ("", "a description with markup")


def with_captions(context: str, captions: Sequence[str], language: str) -> str:
    """The context with descriptions in the places of its images, or before it.

    Args:
        context: With `<image>` for each image, or for none.
        captions: A description of each.
        language: `zh` or `en`: of the words around a description.
    """
    word, colon, frame = _LABELS[language]
    alone = len(captions) == 1
    said = [f"{word if alone else f'{word}{number}'}{colon}{text}" for number, text in enumerate(captions, 1)]
    if not marks_in(context):
        return "\n".join([*said, context])
    parts = context.split(MARK)
    return parts[0] + "".join(frame.format(text) + part for text, part in zip(said, parts[1:], strict=True))


def _language(record: Mapping[str, Any]) -> str:
    return "zh" if record.get("language") in ("zh", "mixed") else "en"
