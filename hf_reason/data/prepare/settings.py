"""The settings of a preparation: `PrepareConfig`, and their description as plain JSON.

The description decides whether a killed run may be resumed and whether a finished result is up to date.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hf_reason._files import digest, file_digest
from hf_reason._options import option
from hf_reason._renamed import renamed
from hf_reason.data.clean.filters import FilterConfig
from hf_reason.data.images import with_bytes
from hf_reason.data.read.dialogues import HISTORIES
from hf_reason.data.read.image_columns import ImageSettings
from hf_reason.data.read.layouts import LAYOUTS
from hf_reason.data.read.tag_families import check_thought_tags
from hf_reason.data.record import DOMAINS, DataError, Record
from hf_reason.version import __version__

from .report_tokens import describe_tokenizer

# Libraries whose version can change which records are kept.
_LIBRARIES = ("rensa", "math-verify")
# So that 0.7 and 0.3 leave nothing to train on, whatever the last digit of their sum.
# Where the processes run.
ENGINES = ("local", "ray")
_ROUNDING = 1e-9
_IMAGES = ("path", "bytes", "drop")
_BROKEN = ("drop", "keep")
# Settings that are left out of the description at their defaults: text was prepared without them before.
_OF_IMAGES = {
    "images": "path",
    "image_folder": None,
    "absolute_image_paths": False,
    "broken_images": "drop",
    "caption_column": None,
}


@renamed(validation_share="validation_size", test_share="test_size")
@dataclass(kw_only=True)
class PrepareConfig:
    """Everything besides the sources that decides the result of `prepare`.

    Parameters that control how the sources are read:
        schema: Name of the layout of every source (see `hf_reason.data.read.layouts`); `None` detects it from the
            columns of each row.
        history: What happens to earlier turns of a dialogue. `"drop"`: the last assistant turn becomes the record,
            earlier turns stay in its context without their thoughts; `"keep"`: their thoughts stay too; `"split"`:
            each assistant turn with a thought becomes a record.
        skip_broken: Count rows that cannot be read instead of stopping at the first one. A file in which no row has
            a known layout is an error all the same.
        thought_tags: Tags that enclose a thought, besides the known ones: `x` for `<x>...</x>`, or `OPEN,CLOSE`.

    Parameters that control the images of records:
        images: `"path"`: records say where an image lies (one that came as bytes stays bytes); `"bytes"`: they hold
            its file, so that the data set can be moved; `"drop"`: they are text alone.
        image_folder: What paths of images are relative to; nothing outside of it is read. Default: the folder of the
            file that names them.
        absolute_image_paths: Also read images outside of that folder.
        broken_images: `"drop"` a record of which an image is missing, damaged or outside of the folder, or `"keep"`
            it without that image. Both are counted.
        caption_column: Column with what is said about the images, for `hf-reason augment --captions`. Default:
            `captions` or `caption`.

    Parameters that control which records are kept:
        filters: Thresholds of the filters.
        decontaminate: Evaluation files; a record that contains a problem of one of them is dropped.
        duplicate_threshold: Similarity, in (0, 1], from which two records are near duplicates (see `Deduplicator`).

    Parameters that control the domain of a record:
        domain: Domain of every record. `None` uses the source's own name for it, or keyword rules.
        domain_rules: YAML file with keyword rules that replace the built-in ones.

    Parameters that control the report:
        tokenizer_name_or_path: Tokenizer in whose tokens the report also gives lengths, of a sample.

    Parameters that control the splits:
        validation_size: Fraction of the contexts that goes to validation, in [0, 1]; 0 makes no such split.
        test_size: The same for test. The rest is the train split. A size of 1 puts everything into that one split.

    Raises:
        DataError: a value out of range or an unknown name; the message names the choices.
    """

    schema: str | None = option(
        None, "Layout of the sources; detected from the columns by default.", choices=LAYOUTS, card=False
    )
    history: str = option("drop", "What happens to earlier turns of a dialogue.", choices=HISTORIES, card=False)
    skip_broken: bool = option(False, "Count rows that cannot be read instead of stopping at the first.", card=False)
    thought_tags: list[str] = option(
        default_factory=list,
        help="Tags that enclose a thought, besides the known ones: x for <x>...</x>, or OPEN,CLOSE.",
        card=False,
    )
    images: str = option(
        "path", "Images of records: where they lie, their bytes, or none.", choices=_IMAGES, card=False
    )
    image_folder: str | None = option(
        None, "Folder that paths of images are relative to. Default: that of the data file.", card=False
    )
    absolute_image_paths: bool = option(False, "Also read images outside of the folder of the data.", card=False)
    broken_images: str = option(
        "drop", "A record with an image that cannot be used: drop it, or keep it without.", choices=_BROKEN, card=False
    )
    caption_column: str | None = option(
        None, "Column with what is said about the images. Default: captions or caption.", card=False
    )
    filters: FilterConfig = field(default_factory=FilterConfig, metadata={"help": "Thresholds of the filters."})
    decontaminate: list[str] = option(
        default_factory=list,
        help="Evaluation files; records that contain one of their problems are dropped.",
        card=False,
    )
    duplicate_threshold: float = option(0.8, "Similarity from which records are near duplicates.", card=False)
    domain: str | None = option(None, "Domain of every record, instead of keyword rules.", choices=DOMAINS, card=False)
    domain_rules: str | None = option(None, "YAML file with your own domain rules.", card=False)
    tokenizer_name_or_path: str | None = option(
        None, "Tokenizer in whose tokens the report gives lengths.", card=False
    )
    validation_size: float = option(0.05, "Fraction of the contexts for the validation split.", card=False)
    test_size: float = option(0.05, "Fraction of the contexts for the test split; 1 makes a test set.", card=False)

    def __post_init__(self) -> None:
        if not isinstance(self.filters, FilterConfig):
            raise DataError(f"filters must be a FilterConfig, got {type(self.filters).__name__}.")
        self.thought_tags = (
            [self.thought_tags] if isinstance(self.thought_tags, str) else list(self.thought_tags or ())
        )
        check_thought_tags(self.thought_tags)
        self.decontaminate = _paths("decontaminate", self.decontaminate)
        if self.domain_rules is not None:
            self.domain_rules = str(self.domain_rules)
        for name, value, known in (
            ("schema", self.schema, LAYOUTS),
            ("history", self.history, HISTORIES),
            ("domain", self.domain, DOMAINS),
            ("images", self.images, _IMAGES),
            ("broken_images", self.broken_images, _BROKEN),
        ):
            if value is not None and value not in known:
                raise DataError(f"Unknown {name} {value!r}.{nearest(value, known)} Choose from {', '.join(known)}.")
        if self.image_folder is not None:
            self.image_folder = str(self.image_folder)
            if not Path(self.image_folder).is_dir():
                raise DataError(f"image_folder {self.image_folder}: there is no such folder.")
        if self.images == "drop" and (self.image_folder or self.absolute_image_paths or self.caption_column):
            raise DataError(
                "images='drop' reads no image, so image_folder, absolute_image_paths and caption_column would have no "
                "effect. Leave them out."
            )
        if self.domain is not None and self.domain_rules is not None:
            raise DataError("domain tags every record, so domain_rules would have no effect. Give one of the two.")
        if not 0 < self.duplicate_threshold <= 1:
            raise DataError(f"duplicate_threshold {self.duplicate_threshold} must be above 0 and at most 1.")
        self._check_sizes()

    def _check_sizes(self) -> None:
        sizes = {"validation_size": self.validation_size, "test_size": self.test_size}
        if list(sizes.values()).count(1) == 1:
            # All of the records go to one split; the other one's default is not a wish.
            sizes = {name: float(size == 1) for name, size in sizes.items()}
        if min(sizes.values()) < 0 or sum(sizes.values()) > 1 + _ROUNDING:
            raise DataError(
                f"validation_size {self.validation_size} and test_size {self.test_size} must not be negative, and "
                "their sum must be at most 1."
            )
        self.validation_size, self.test_size = sizes["validation_size"], sizes["test_size"]

    @property
    def image_settings(self) -> ImageSettings:
        """How the sources' images are read."""
        keep = self.images != "drop"
        return ImageSettings(keep, self.image_folder, self.absolute_image_paths, self.caption_column)

    def stored(self, record: Record) -> Record:
        """A record as the data set holds it."""
        if self.images != "bytes" or not record.get("images"):
            return record
        return {**record, "images": [with_bytes(image) for image in record["images"]]}

    @property
    def split_sizes(self) -> dict[str, float]:
        """The fraction of each split, in the order train, validation, test; they sum to 1."""
        train = 1 - self.validation_size - self.test_size
        return {
            "train": train if train > _ROUNDING else 0.0,
            "validation": self.validation_size,
            "test": self.test_size,
        }

    @classmethod
    def of(cls, config: "PrepareConfig | None", options: dict[str, Any]) -> "PrepareConfig":
        """`config` (default: all defaults) with `options` set, as in `prepare(config=..., **options)`.

        Raises:
            TypeError: an option that does not exist; the message gives the nearest one.
        """
        known = [each.name for each in fields(PrepareConfig)]
        for name in options:
            if name in {each.name for each in fields(FilterConfig)}:
                raise TypeError(
                    f"prepare() got {name!r}, a threshold of the filters: filters=FilterConfig({name}=...)."
                )
            if name not in known and name not in PrepareConfig.__renamed__:  # type: ignore[attr-defined]
                raise TypeError(
                    f"prepare() has no argument {name!r}.{nearest(name, known)} Its options are {', '.join(known)}."
                )
        given = {name: getattr(config, name) for name in known} if config is not None else {}
        return PrepareConfig(**given | options)


def nearest(name: str, known: Sequence[str]) -> str:
    """` Did you mean 'x'?`, or nothing."""
    found = difflib.get_close_matches(str(name), known, 1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _paths(name: str, value: Any) -> list[str]:
    if isinstance(value, str | Path):
        return [str(value)]
    if not isinstance(value, list | tuple) or not all(isinstance(path, str | Path) for path in value):
        raise DataError(f"{name} must be a list of paths, got {value!r}.")
    return [str(path) for path in value]


def describe_settings(sources: Sequence[str], config: PrepareConfig) -> dict[str, Any]:
    """Everything that decides the result. Files are named by their last component and known by their content.

    Raises:
        DataError: if a file or the tokenizer cannot be read.
    """
    described = {each.name: getattr(config, each.name) for each in fields(PrepareConfig)} | {
        "filters": asdict(config.filters),
        "domain_rules": _describe_file(Path(config.domain_rules)) if config.domain_rules else None,
        "decontaminate": [entry for path in config.decontaminate for entry in _describe_source(path)],
    }
    if config.image_folder is not None:
        described["image_folder"] = Path(config.image_folder).name
    described = {name: value for name, value in described.items() if _OF_IMAGES.get(name, ...) != value}
    # what was added later and is not used leaves the description as it was
    if not described["filters"].get("keep_non_thinking"):
        described["filters"].pop("keep_non_thinking", None)
    name = described.pop("tokenizer_name_or_path")
    if name is not None:
        described["tokenizer"] = describe_tokenizer(name)
    settings = {
        "sources": [entry for source in sources for entry in _describe_source(source)],
        **described,
        "versions": {"hf_reason": __version__} | {name: version(name) for name in _LIBRARIES},
    }
    return json.loads(json.dumps(settings))


def fingerprint(settings: dict[str, Any]) -> str:
    """A hash (16 hex digits) of the settings."""
    return digest(json.dumps(settings, sort_keys=True, ensure_ascii=False))


def _describe_source(source: str) -> list[dict[str, Any]]:
    path = Path(source)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
        files = [file for file in files if not file.name.endswith(("-wal", "-shm"))]  # of a SQLite file beside them
        return [_describe_file(file, file.relative_to(path.parent).as_posix()) for file in files]
    if path.exists():
        return [_describe_file(path)]
    return [{"hub": source, "revision": _hub_revision(source)}]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _describe_file(path: Path, name: str | None = None) -> dict[str, Any]:
    try:
        # what was written last to a SQLite file (feedback) may still be beside it
        parts = [path, *(log for log in [Path(f"{path}-wal")] if log.is_file())]
        size = sum(part.stat().st_size for part in parts)
        return {"name": name or path.name, "bytes": size, "blake2b": file_digest(*parts, size=16)}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _hub_revision(name: str) -> str | None:
    """The commit that the name refers to now; `None` if the Hub cannot be asked."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name.split(":")[0], timeout=10).sha
    except Exception:  # offline, no such data set, no permission: the reader has the better message
        return None
