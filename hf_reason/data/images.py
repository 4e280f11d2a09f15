"""Images of records: references by path or bytes, opened only where pixels are needed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from hf_reason._files import digest, file_digest

if TYPE_CHECKING:
    from PIL.Image import Image

# The column of images; TRL's name, too.
IMAGES = "images"
# Where an image stands in a text. A text without marks has its images before it.
MARK = "<image>"


class ImageReference(TypedDict):
    """An image as `datasets.Image` stores it: the bytes of its file, or its path.

    Keys:
        bytes: Of the file; `None`: it lies at `path`.
        path: Of the file, or only its name where there are bytes.
    """

    bytes: bytes | None
    path: str | None


class ImageError(ValueError):
    """An image that cannot be read. The message says which, and why."""


def reference_to(value: Any) -> ImageReference:
    """A reference to an image in any form: a path, bytes, what `datasets.Image` stores, a PIL image, an array.

    Raises:
        ImageError: if it is something else.
    """
    if isinstance(value, str | os.PathLike):
        return {"bytes": None, "path": os.fspath(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, Mapping) and (value.get("bytes") is not None or value.get("path")):
        content = value.get("bytes")
        return {"bytes": None if content is None else bytes(content), "path": value.get("path")}
    if hasattr(value, "__array__") or hasattr(value, "getexif"):
        from datasets import Image as ImageFeature

        stored = ImageFeature().encode_example(value)
        return {"bytes": stored["bytes"], "path": stored["path"]}
    raise ImageError(f"an image is a path, bytes or a picture, not {type(value).__name__}.")


def references_in(record: Mapping[str, Any]) -> list[ImageReference]:
    """The images of a record, in their order; TRL's single `image` counts, too."""
    found = record.get(IMAGES)
    if found is None:
        found = [] if record.get("image") is None else [record["image"]]
    elif not isinstance(found, Sequence) or isinstance(found, str | bytes):
        found = [found]
    return [reference_to(each) for each in found if each is not None]


def has_image_column(columns: Iterable[str]) -> bool:
    """Whether one of the columns is one of images."""
    return bool({IMAGES, "image"} & set(columns))


def has_images(dataset: Any, column: str) -> bool:
    """Whether there is an image in a column of a `datasets.Dataset`; of a stream that is not known: yes."""
    return hasattr(dataset, "_ex_iterable") or _first_row(dataset, column) is not None


def _first_row(dataset: Any, column: str) -> int | None:
    """The first row of a `datasets.Dataset` with an image in a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = 1000
    for number, table in enumerate(dataset.select_columns([column]).with_format("arrow").iter(size)):
        cells = table[column]
        several = "list" in str(cells.type)
        found = pc.greater(pc.list_value_length(cells), 0) if several else pc.is_valid(cells)
        row = pc.index(pc.fill_null(found, False), pa.scalar(True)).as_py()
        if row >= 0:
            return size * number + row
    return None


def first_with_images(records: Any) -> int | None:
    """The row of the first record with an image, of a `datasets.Dataset` or a list; `None`: there is none."""
    columns = getattr(records, "column_names", None)
    if columns is None:
        return next((row for row, record in enumerate(records) if references_in(record)), None)
    rows = (_first_row(records, name) for name in (IMAGES, "image") if name in columns)
    return min((row for row in rows if row is not None), default=None)


def name_of(image: Mapping[str, Any]) -> str:
    """What messages call an image."""
    return str(image["path"]) if image.get("path") else f"an image of {len(image['bytes']):,} bytes"


def open_image(image: Mapping[str, Any]) -> "Image":
    """The picture in RGB, upright; transparent parts are white.

    Args:
        image: A reference.

    Raises:
        ImageError: if the file is missing, no image, or damaged.
    """
    from PIL import Image, ImageOps

    content, path = image.get("bytes"), image.get("path")
    try:
        with Image.open(BytesIO(content) if content is not None else str(path)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                upright = upright.convert("RGBA")
                white = Image.new("RGBA", upright.size, "white")
                return Image.alpha_composite(white, upright).convert("RGB")
            return _of_eight_bits(upright).convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name_of(image)} cannot be read as an image: {why}") from None


def _of_eight_bits(picture: "Image") -> "Image":
    """A picture of 16 bits, as X-rays are, in 8; PIL would cut all but its darkest values off."""
    import numpy as np
    from PIL import Image

    if not picture.mode.startswith("I"):
        return picture
    values = np.asarray(picture)
    return Image.fromarray((values // 256 if values.max(initial=0) > 255 else values).astype(np.uint8))


def image_digest(image: Mapping[str, Any]) -> str:
    """A hash (32 hex digits) of an image's file, wherever it lies.

    Raises:
        ImageError: if the file cannot be read.
    """
    if image.get("bytes") is not None:
        return digest(image["bytes"], size=16)
    try:
        place = os.stat(path := str(image["path"]))
        return _digest_of_file(path, place.st_size, place.st_mtime_ns)
    except OSError as error:
        raise ImageError(f"{image['path']}: cannot be read ({error.strerror or error}).") from None


@lru_cache(maxsize=4096)
def _digest_of_file(path: str, size: int, time: int) -> str:
    """The hash of a file of this size and time, which several keys of a record need."""
    return file_digest(path, size=16)


def with_bytes(image: ImageReference) -> ImageReference:
    """The image with its file's content, and the name of the file alone.

    Raises:
        ImageError: if the file cannot be read.
    """
    if image["bytes"] is not None:
        return image
    path = Path(str(image["path"]))
    try:
        return {"bytes": path.read_bytes(), "path": path.name}
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from None


def problem_key(record: Mapping[str, Any]) -> str:
    """The context, and what tells its images from others: records of other images are no duplicates.

    The hashes are written in decimal digits: near duplicates name the same numbers.
    """
    if not (images := record.get(IMAGES)):
        return str(record["context"])
    return "\n".join((str(record["context"]), *(str(int(image_digest(image), 16)) for image in images)))


def family_key(record: Mapping[str, Any]) -> str:
    """The text whose near-copies share a split: the context, or the images where there are some.

    Many questions are asked of one image, and one question ("What does the chart show?") of many.
    """
    if not (images := record.get(IMAGES)):
        return str(record["context"])
    return " ".join(image_digest(image) for image in images)


def marks_in(text: str) -> int:
    """How many images a text gives a place."""
    return text.count(MARK)


def without_marks(text: str) -> str:
    """The text without places of images."""
    return text.replace(f"{MARK}\n", "").replace(MARK, "").strip("\n")
