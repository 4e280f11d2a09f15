"""The counts of a preparation: how many traces were read, kept and dropped, by reason and by file."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hf_reason._files import digest
from hf_reason.data.clean.filters import FILTER_NAMES
from hf_reason.data.record import RawTrace, Record

# Every reason to drop a trace, in the order in which the pipeline checks them.
DROP_REASONS = ("unreadable", "broken_image", *FILTER_NAMES, "contaminated", "exact_duplicate", "near_duplicate")
SUSPICIOUS = "suspicious"
# Of each reason: so many are kept for the page, and so many, on one line each, are in report.json.
SAMPLES_EACH, EXAMPLES_EACH = 8, 3
# Characters of a text that an example keeps of its beginning and its end.
_KEPT = {"context": (700, 200), "chain": (1200, 500), "answer": (400, 150)}
_SHOWN = {"context": (120, 60), "chain": (120, 60), "answer": (60, 30)}


def excerpt(text: str, head: int = 120, tail: int = 60) -> str:
    """`text` on one line, its middle left out when it is longer than `head + tail` characters."""
    text = " ".join(text.split())
    return text if len(text) <= head + tail + 3 else f"{text[:head]} … {text[-tail:]}"


def clipped(text: str, head: int, tail: int) -> str:
    """`text` with its lines, its middle left out when it is longer than `head + tail` characters."""
    left_out = len(text) - head - tail
    return text if left_out <= 40 else f"{text[:head]}\n[… {left_out:,} characters …]\n{text[-tail:]}"


def trace_example(trace: RawTrace, note: str = "") -> dict[str, str]:
    """What the report shows of a trace that was dropped."""
    chain = trace.thought if trace.thought is not None else "\n".join(trace.steps or [])
    return _example(trace.source, (trace.context, trace.task), chain, trace.answer, note)


def record_example(record: Record, note: str = "") -> dict[str, str]:
    """The same for a record."""
    problem = record["context"], record["task"]
    return _example(record["source"], problem, "\n".join(record["steps"]), record["answer"], note)


def _example(source: str, problem: tuple[str, str], chain: str, answer: str, note: str) -> dict[str, str]:
    texts = {"context": "\n".join(filter(None, problem)), "chain": chain, "answer": answer}
    shown = {"source": source} | {name: clipped(text.strip(), *_KEPT[name]) for name, text in texts.items()}
    return shown | ({"note": note} if note else {})


def on_one_line(example: dict[str, str]) -> dict[str, str]:
    """An example as report.json has it."""
    return {name: excerpt(text, *_SHOWN[name]) if name in _SHOWN else text for name, text in example.items()}


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
        examples: Up to `SAMPLES_EACH` of each drop reason and of `"suspicious"`, each behind the number that orders
            them. The number is a hash of where the trace stands, so that they are drawn evenly from all of them,
            wherever the chunks are cut.
    """

    files: dict[str, FileCounts] = field(default_factory=dict)
    suspicious: int = 0
    unknown_tags: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[list[Any]]] = field(default_factory=dict)

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
            self._show(SUSPICIOUS, record["source"], record_example(record))

    def drop(self, reason: str, source: str, example: dict[str, str]) -> None:
        """Count a trace or row that was read before and is dropped."""
        self._file(source).dropped[reason] += 1
        self._show(reason, source, example)

    def samples(self, reason: str) -> list[dict[str, str]]:
        """The examples of a reason."""
        return [example for _, example in self.examples.get(reason, [])]

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
            self.examples[reason] = sorted([*self.examples.get(reason, []), *examples], key=_order)[:SAMPLES_EACH]

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

    def _show(self, reason: str, source: str, example: dict[str, str]) -> None:
        number = int(digest(reason, source, size=6), 16)
        shown = self.examples.setdefault(reason, [])
        if len(shown) < SAMPLES_EACH or number < shown[-1][0]:
            shown.append([number, example])
            shown.sort(key=_order)
            del shown[SAMPLES_EACH:]


def _order(numbered: list[Any]) -> tuple[int, str]:
    return numbered[0], str(numbered[1].get("source"))
