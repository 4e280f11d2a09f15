"""The images of a row: in columns of their own and in the parts of messages, as references that may be read.

A path is relative to the file that names it. What lies outside of the data's folder is not read unless the user allows
it: a data set of somebody else's could name any picture on this machine, which would then be published with the data
or sent to a captioning server.
"""

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_reason.data.images import MARK, ImageError, ImageReference, marks_in, reference_to, without_marks
from hf_reason.data.record import RawTrace

from .literals import parsed

_COLUMN = re.compile(
    r"(?:images?|pictures?|imgs?|figures?|图片|图像|圖片|圖像)[ _-]?(?:paths?|files?|names?|urls?|\d+)?", re.I
)
_CAPTIONS = ("captions", "caption", "image_captions", "image_caption", "image_description")
_DIALOGUES = ("messages", "conversations", "prompt", "completion", "history", "input")
_ENDING = re.compile(r"\.(?:png|jpe?g|jfif|webp|bmp|gif|tiff?|ppm|ico|heic|avif|jp2|dcm|svg)\Z", re.I)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
_DATA_URL = re.compile(r"data:image/[\w.+-]+(?:;[\w=-]+)*;base64,(?P<content>.*)\Z", re.S)
# How PNG, JPEG, GIF, WebP and BMP begin in base64.
_BASE64 = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk)[A-Za-z0-9+/\s]{60,}={0,2}\s*\Z")
_LONGEST_NAME = 200
_PARTS = ("image", "image_url", "input_image")


@dataclass(frozen=True)
class ImageSettings:
    """How images are read.

    Attributes:
        keep: `False`: rows are read for their text alone.
        folder: What paths are relative to, and nothing outside of it is read; default: the folder of the data.
        absolute: Also read what lies outside of it.
        caption_column: The column with what is said about the images; default: `captions` or `caption`.
    """

    keep: bool = True
    folder: str | None = None
    absolute: bool = False
    caption_column: str | None = None


@dataclass
class RowImages:
    """The images of a row.

    Attributes:
        values: The row without them; in messages `<image>` stands where one was.
        images: References, in order.
        faults: Why one cannot be read, by its place.
        captions: What the row says about them.
    """

    values: dict[str, Any]
    images: list[ImageReference] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list)

    def of(self, traces: list[RawTrace], keep: bool) -> list[RawTrace]:
        """The traces of the row, each with its images: an earlier turn has those that it gives a place."""
        if not self.images:
            return traces
        if not keep:
            return [replace(t, context=without_marks(t.context), task=without_marks(t.task)) for t in traces]
        found = []
        for number, trace in enumerate(traces, 1):
            count = len(self.images) if number == len(traces) else marks_in(trace.context)
            faults = {place: why for place, why in self.faults.items() if place < count}
            captions = self.captions[:count]
            found.append(replace(trace, images=self.images[:count], image_faults=faults, captions=captions))
        return found


@lru_cache(maxsize=512)
def _image_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that may hold images; those with a number in their order."""
    found = [name for name in columns if _COLUMN.fullmatch(str(name))]
    return tuple(sorted(found, key=lambda name: [int(n) for n in re.findall(r"\d+", name)]))


@lru_cache(maxsize=64)
def folders_of(source: str, label: str) -> tuple[Path | None, Path | None]:
    """The folder of the file that a row comes from, and the one that its images must lie in; neither on the Hub.

    Args:
        source: A file, a folder, or a Hub name.
        label: The file of a row, as rows have it.
    """
    path = Path(source)
    if path.is_file():
        return path.parent, path.parent
    if not path.is_dir():
        return None, None
    file = path / label
    return (file.parent if file.exists() else path), path


def take_images(values: dict[str, Any], base: Path | None, root: Path | None, settings: ImageSettings) -> RowImages:
    """Take the images out of a row as the file has it.

    Args:
        values: The row.
        base: The folder of its file; `None`: it has none (a Hub data set).
        root: The folder that images must lie in, and that paths may also be relative to.
        settings: How images are read.
    """
    row = RowImages(values)
    given: list[Any] = []
    for name in _image_columns(tuple(values)):
        if found := _listed(values[name], (settings.folder, base, root)):
            row.values = {other: value for other, value in row.values.items() if other != name}
            given += found
    for name in _DIALOGUES:
        if (replaced := _from_messages(values.get(name), given)) is not None:
            row.values = {**row.values, name: replaced}
    for place, value in enumerate(given):
        try:
            row.images.append(_reference(value, base, root, settings))
        except ImageError as error:
            row.images.append({"bytes": None, "path": _shown(value)})
            row.faults[place] = str(error)
    if row.images:
        row.captions = _captions(values, settings.caption_column, len(row.images))
    return row


def _listed(value: Any, folders: Iterable[str | Path | None]) -> list[Any]:
    """The images in a cell; none if it holds something else, such as the name of a container."""
    places = [Path(folder) for folder in folders if folder is not None]
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "(", "{"):
        value = parsed(value)
    items = list(value) if isinstance(value, list | tuple) else [value]
    items = [item for item in items if item is not None and item != ""]
    return items if items and all(_is_image(item, places) for item in items) else []


def _is_image(value: Any, places: list[Path]) -> bool:
    if isinstance(value, str):
        if _ENDING.search(value) or any(pattern.match(value) for pattern in (_DATA_URL, _URL, _BASE64)):
            return True
        return len(value) < _LONGEST_NAME and any((place / value).is_file() for place in places)
    if isinstance(value, Mapping):
        return value.get("bytes") is not None or bool(value.get("path"))
    return isinstance(value, bytes) or hasattr(value, "getexif")


def _from_messages(value: Any, found: list[Any]) -> Any:
    """A dialogue with `<image>` for its images, which are added to `found`; `None` if it has none."""
    if isinstance(value, str) and '"image' in value:
        value = parsed(value)
    if not isinstance(value, list):
        return None
    turns, changed = [], False
    for turn in value:
        parts = turn.get("content") if isinstance(turn, Mapping) else None
        if isinstance(parts, list) and any(isinstance(part, Mapping) and _kind(part) in _PARTS for part in parts):
            turn, changed = {**turn, "content": [_text_part(part, found) for part in parts]}, True
        turns.append(turn)
    return turns if changed else None


def _kind(part: Mapping[str, Any]) -> str:
    return str(part.get("type", ""))


def _text_part(part: Any, found: list[Any]) -> Any:
    if not isinstance(part, Mapping) or _kind(part) not in _PARTS:
        return part
    source: Any = part.get("source") if isinstance(part.get("source"), Mapping) else {}
    value = next((part[key] for key in ("image", "image_url", "url", "path", "base64") if part.get(key)), None)
    value = value.get("url") if isinstance(value, Mapping) and "url" in value else value
    value = value or source.get("data") or source.get("url")
    if value:  # else the columns of the row have it
        found.append(value)
    return {"type": "text", "text": MARK}


def _reference(value: Any, base: Path | None, root: Path | None, settings: ImageSettings) -> ImageReference:
    if isinstance(value, str):
        encoded = _DATA_URL.match(value)
        if encoded or _BASE64.match(value):
            try:
                return reference_to(base64.b64decode(encoded["content"] if encoded else value))
            except (binascii.Error, ValueError) as error:
                raise ImageError(f"{_shown(value)}: not base64 ({error}).") from None
        if _URL.match(value) and not value.startswith("file://"):
            raise ImageError(f"{_shown(value)}: images are not downloaded. Download it, and give its path.")
        value = {"bytes": None, "path": value.removeprefix("file://")}
    image = reference_to(value)
    if image["bytes"] is not None:
        return {"bytes": image["bytes"], "path": os.path.basename(image["path"]) if image["path"] else None}
    return {"bytes": None, "path": _located(str(image["path"]), base, root, settings)}


def _located(path: str, base: Path | None, root: Path | None, settings: ImageSettings) -> str:
    """The absolute path of an image that may be read.

    Raises:
        ImageError: if there is none.
    """
    if settings.folder is not None:
        base = root = Path(settings.folder)
    if base is None and not (os.path.isabs(path) and settings.absolute):
        raise ImageError(f"{path}: the data set has no folder that it could be relative to. Give image_folder.")
    places = [Path(path)] if os.path.isabs(path) else [place / path for place in dict.fromkeys((base, root)) if place]
    outside = False
    for place in places:
        if not settings.absolute and not _inside(place, root or base):
            outside = True
        elif place.is_file():
            return os.path.abspath(place)
    if outside:
        raise ImageError(
            f"{path} lies outside of {(root or base or Path()).name or 'the folder of the data'}, so it is not read. "
            "Give the folder as image_folder, or set absolute_image_paths if you trust who wrote the data."
        )
    raise ImageError(f"{path}: there is no such file.")


def _inside(place: Path, root: Path | None) -> bool:
    """Whether a path leads into the folder, links included; those of the Hub's cache lead to its blobs."""
    if root is None:
        return False
    real, allowed = place.resolve(), [root.resolve()]
    cache = next((parent for parent in allowed[0].parents if parent.name == "snapshots"), None)
    if cache is not None:
        allowed.append(cache.parent / "blobs")
    return any(real.is_relative_to(folder) for folder in allowed)


def _captions(values: Mapping[str, Any], column: str | None, count: int) -> list[str]:
    """The captions, one an image; none if the row has another number of them."""
    name = column or next((each for each in _CAPTIONS if values.get(each)), None)
    found = values.get(name) if name is not None else None
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = parsed(found)
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(t, str) and t.strip() for t in texts):
        return []
    return [text.strip() for text in texts]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:60]}..."
