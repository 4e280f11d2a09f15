"""The counts of a preparation: how many traces were read, kept and dropped, by reason and by file."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hf_reason.data.clean.filters import FILTER_NAMES
from hf_reason.data.record import RawTrace, Record

# Every reason to drop a trace, in the order in which the pipeline checks them.
DROP_REASONS = ("unreadable", "broken_image", *FILTER_NAMES, "contaminated", "exact_duplicate", "near_duplicate")
SUSPICIOUS = "suspicious"
EXAMPLES_EACH = 3


def excerpt(text: str, head: int = 120, tail: int = 60) -> str:
    """`text` on one line, its middle left out when it is longer than `head + tail` characters."""
    text = " ".join(text.split())
    return text if len(text) <= head + tail + 3 else f"{text[:head]} … {text[-tail:]}"


def trace_example(trace: RawTrace, note: str = "") -> dict[str, str]:
    """What the report shows of a trace that was dropped."""
    chain = trace.thought if trace.thought is not None else "\n".join(trace.steps or [])
    return _example(trace.source, trace.context, chain, trace.answer, note)


def record_example(record: Record, note: str = "") -> dict[str, str]:
    """The same for a record."""
    return _example(record["source"], record["context"], "\n".join(record["steps"]), record["answer"], note)


def _example(source: str, context: str, chain: str, answer: str, note: str) -> dict[str, str]:
    shown = {"source": source, "context": excerpt(context), "chain": excerpt(chain), "answer": excerpt(answer, 60, 30)}
    return shown | ({"note": note} if note else {})


def file_of(source: str) -> str:
    """The file or data set of a trace's `source`, which is `"<file>#<row>"`."""
    return source.rpartition("#")[0] or source


@dataclass
class FileCounts:
    """Counts of one source file or data set: rows read, records kept, and rows dropped by reason."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class Counts:
    """Counts of one chunk, or, merged, of a whole run.

    Attributes:
        files: Counts of each source file or data set, in the order of reading.
        suspicious: Records that were kept although their answer contradicts their chain.
        unknown_tags: Traces without a thought whose answer begins with a pair of tags that is not known, by its name
            as `thought_tags` accepts it.
        images: Images of the records that passed the check of images, and how many of those had a broken one.
        examples: Up to `EXAMPLES_EACH` examples of each drop reason and of `"suspicious"`, the first ones.
    """

    files: dict[str, FileCounts] = field(default_factory=dict)
    suspicious: int = 0
    unknown_tags: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    @property
    def read(self) -> int:
        """Traces and unreadable rows together."""
        return sum(found.read for found in self.files.values())

    @property
    def kept(self) -> int:
        return sum(found.kept for found in self.files.values())

    @property
    def dropped(self) -> Counter[str]:
        """Traces and rows dropped for each of `DROP_REASONS`."""
        return sum((found.dropped for found in self.files.values()), Counter())

    def add_read(self, source: str) -> None:
        """Count a trace or an unreadable row of `source`."""
        self._file(source).read += 1

    def keep(self, record: Record, suspicious: bool = False) -> None:
        self._file(record["source"]).kept += 1
        if suspicious:
            self.suspicious += 1
            self._show(SUSPICIOUS, record_example(record))

    def drop(self, reason: str, source: str, example: dict[str, str]) -> None:
        """Count a trace or row that was read before and is dropped."""
        self._file(source).dropped[reason] += 1
        self._show(reason, example)

    def add_images(self, count: int, fault: str = "") -> None:
        """Count the images of a trace that is not dropped for them, and what was wrong with one of them."""
        self.images["images"] += count
        self.images["records"] += count > 0
        if fault:
            self.images["without_broken_ones"] += 1

    def merge(self, other: "Counts") -> None:
        """Add the counts of a later chunk."""
        for name, found in other.files.items():
            mine = self.files.setdefault(name, FileCounts())
            mine.read += found.read
            mine.kept += found.kept
            mine.dropped.update(found.dropped)
        self.suspicious += other.suspicious
        self.unknown_tags.update(other.unknown_tags)
        self.images.update(other.images)
        for reason, examples in other.examples.items():
            for example in examples:
                self._show(reason, example)

    def check(self) -> None:
        """Raise `AssertionError` unless read = kept + dropped in every file: a record lost on the way is a bug."""
        for name, found in self.files.items():
            gone = found.dropped.total()
            if found.read != found.kept + gone:
                raise AssertionError(f"{name}: {found.read} read, but {found.kept} kept and {gone} dropped.")

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON; `from_dict` reads it back."""
        return {"files": {name: vars(found) for name, found in self.files.items()}} | {
            "suspicious": self.suspicious,
            "unknown_tags": self.unknown_tags,
            "images": self.images,
            "examples": self.examples,
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Counts":
        files = {
            name: FileCounts(found["read"], found["kept"], Counter(found["dropped"]))
            for name, found in stored["files"].items()
        }
        tags, images = Counter(stored.get("unknown_tags", {})), Counter(stored.get("images", {}))
        return cls(files, stored["suspicious"], tags, images, stored["examples"])

    def _file(self, source: str) -> FileCounts:
        name = file_of(source)
        found = self.files.get(name)
        if found is None:
            found = self.files[name] = FileCounts()
        return found

    def _show(self, reason: str, example: dict[str, str]) -> None:
        shown = self.examples.setdefault(reason, [])
        if len(shown) < EXAMPLES_EACH:
            shown.append(example)
