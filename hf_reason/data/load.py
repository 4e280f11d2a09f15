"""Records to work with: `load_cot_sft_dataset` for prepared data, `read_evaluation_records` for raw test files."""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_reason._files import digest
from hf_reason._network import why_unreachable
from hf_reason.version import __version__

from .images import IMAGES, has_images
from .record import DOMAINS, IMAGE_FIELDS, RECORD_FIELDS, DataError, Record

if TYPE_CHECKING:
    import datasets

    from hf_reason.data.read.rows import OnBroken

_SAMPLE = Path(__file__).with_name("sample")
_RAW_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
# The sample is small: with the usual 5% some domains would have nothing to test on.
_SAMPLE_SIZE = 0.1
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_cot_sft_dataset(
    domain: str = "all", split: str = "train", data_dir: str | os.PathLike[str] | None = None
) -> "datasets.Dataset":
    """Load prepared records.

    Args:
        domain: One of `DOMAINS`, or `"all"`.
        split: `"train"`, `"validation"` or `"test"`, if the data set has it.
        data_dir: A folder that `prepare` wrote, the name of such a data set on the Hub, or `None` for the built-in
            sample (prepared on first use into the Hugging Face cache).

    Returns:
        A `datasets.Dataset` with the columns of the record.

    Raises:
        DataError: unknown domain, split or data set; the message names what there is.
    """
    if domain != "all" and domain not in DOMAINS:
        raise DataError(f"Unknown domain {domain!r}. Choose one of: all, {', '.join(DOMAINS)}.")
    place = sample_folder() if data_dir is None else data_dir
    found = _open(os.fspath(place))
    name = "the built-in sample" if data_dir is None else os.fspath(data_dir)
    if split not in found:
        raise DataError(f"{name} has no split {split!r}. It has: {', '.join(map(str, found))}.")
    data = found[split]
    missing = [column for column in RECORD_FIELDS if column not in data.column_names]
    if missing:
        raise DataError(
            f"{name} is not a prepared data set: it lacks {', '.join(missing)} (its columns: "
            f"{', '.join(data.column_names)}). {_how_to_prepare(name)}"
        )
    # a column in which there is nothing, as after all images were described, would make a task with images of it
    images = IMAGE_FIELDS if IMAGES in data.column_names and has_images(data, IMAGES) else ()
    data = data.select_columns([*RECORD_FIELDS, *(name for name in images if name in data.column_names)])
    return data if domain == "all" else _of_domain(data, domain, f"{name}, split {split}")


def _of_domain(data: "datasets.Dataset", domain: str, name: str) -> "datasets.Dataset":
    import numpy as np

    domains = np.asarray(data.with_format("arrow")["domain"][:])
    rows = np.flatnonzero(domains == domain)
    if not len(rows):
        counts = sorted(Counter(domains.tolist()).items())
        there = ", ".join(f"{key} ({count})" for key, count in counts) or "nothing"
        raise DataError(f"{name}: no record of the domain {domain!r}. There is: {there}.")
    return data.select(rows)


# Endings that say that a file was meant, whatever else the name could be.
_FILE = re.compile(
    r"\.(?:jsonl?|ndjson|csv|tsv|parquet|arrow|txt|db|sqlite3?)(?:\.(?:gz|bz2|xz|zst))?\Z", re.IGNORECASE
)


def _open(place: str) -> "datasets.DatasetDict":
    from datasets import load_dataset, load_from_disk

    path = Path(place).expanduser()
    if path.is_dir():
        if not (path / "dataset_dict.json").exists():
            raise DataError(_why_not_prepared(path))
        return load_from_disk(str(path))
    if path.exists():
        raise DataError(f"{place} is a file, not a prepared folder. {_how_to_prepare(place)}")
    if not _HUB_NAME.fullmatch(place):
        raise DataError(f"{place}: there is no such folder.")
    if _FILE.search(place):
        raise DataError(f"{place}: there is no such file.")
    try:
        return load_dataset(place)
    except Exception as error:  # offline, not found, no permission, not a data set: one message for the user
        if (network := why_unreachable(error)) is not None:
            raise DataError(
                f"{place} is no folder here, and the Hub cannot be reached ({network}). Run the same command again."
            ) from error
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{place} is neither a folder nor a data set that can be loaded from the Hub ({type(error).__name__}: "
            f"{reason})."
        ) from error


def _why_not_prepared(path: Path) -> str:
    if (path / ".work").exists():
        return f"{path} holds an unfinished preparation. Run the same `hf-reason prepare` again to finish it."
    if (path / "state.json").exists():
        return f"{path} is one split of a data set. Give its parent folder: {path.parent}."
    names = sorted(entry.name for entry in path.iterdir())
    there = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    return f"{path} is not a prepared data set: it holds {there}. {_how_to_prepare(path)}"


def _how_to_prepare(source: str | Path) -> str:
    return f"Prepare it first: hf-reason prepare --dataset_name {source} --output_dir prepared"


def read_evaluation_records(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    schema: str | None = None,
    *,
    history: str = "drop",
    domain: str | None = None,
    domain_rules: str | Path | None = None,
    skip_broken: bool = False,
    on_broken: "OnBroken | None" = None,
    thought_tags: Sequence[str] = (),
    answers_needed: bool = True,
) -> list[Record]:
    """Read raw files as records for `evaluate_model`, in every layout, with or without chains.

    Nothing is filtered and no duplicate is removed. `answer` is the known correct answer where the source has one;
    `steps` is empty where it has no chain; options (columns A, B, C, ...) are part of the context.

    Args:
        sources: File(s), folder(s) or Hub data set name(s) with problems and answers.
        schema: Name of the layout; `None` detects it from the columns.
        history: What happens to earlier turns of a dialogue, see `read_traces`.
        domain: Domain of every record; `None` uses the source's own name for it, or keyword rules.
        domain_rules: YAML file with keyword rules that replace the built-in ones.
        skip_broken: Skip rows that cannot be read or have no answer, instead of stopping at the first one.
        on_broken: Called with each `BrokenRow` that is skipped; by default it is logged as a warning.
        thought_tags: Tags that enclose a thought, besides the known ones (see `read_traces`).
        answers_needed: `False`: a row without an answer is a problem, too; its `answer` is empty.

    Raises:
        DataError: an unknown domain, a source that cannot be read, a row without a problem or an answer, or no row.
    """
    from hf_reason.data.clean.domains import DomainTagger
    from hf_reason.data.read.evaluation import read_evaluation_traces
    from hf_reason.data.read.rows import log_broken, refuse
    from hf_reason.data.read.sources import trace_to_record

    broken: OnBroken = (on_broken or log_broken) if skip_broken else refuse
    if domain is not None and domain not in DOMAINS:
        raise DataError(f"Unknown domain {domain!r}. Choose one of: {', '.join(DOMAINS)}.")
    tagger = DomainTagger(domain_rules) if domain is None else None
    records: list[Record] = []
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        before = len(records)
        for trace in read_evaluation_traces(source, schema, history, broken, thought_tags, answers_needed):
            record = trace_to_record(trace)
            problem = f"{record['context']}\n{record['task']}".strip()
            chain = "\n".join([*record["steps"], record["answer"]])
            record["domain"] = domain or (tagger.tag(problem, trace.domain, chain) if tagger else "general")
            records.append(record)
        if len(records) == before:
            raise DataError(f"{source}: there is no row to evaluate on.")
    return records


def sample_files() -> list[Path]:
    """The raw files of the built-in sample."""
    return sorted(path for path in _SAMPLE.iterdir() if path.suffix in _RAW_ENDINGS)


def sample_folder() -> Path:
    """The prepared built-in sample; prepared now if the cache does not hold this version of it yet."""
    from huggingface_hub.constants import HF_HOME

    from hf_reason.data import prepare

    sources = sample_files()
    target = Path(HF_HOME) / "hf_reason" / f"sample-{_sample_version(sources)}"
    if (target / "report.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Prepared beside it and renamed, so that another process sees all of it or nothing.
    building = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        prepare(sources, building, validation_size=_SAMPLE_SIZE, test_size=_SAMPLE_SIZE, progress=False)
        os.rename(building, target)
    except OSError:
        if not (target / "report.json").exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _sample_version(sources: list[Path]) -> str:
    """A hash of the sample and of the code and rules that prepare it."""
    package = Path(__file__).parents[1]
    files = [path for part in ("answers", "data") for path in (package / part).rglob("*.*")]
    code = [path for path in files if path.suffix in (".py", ".yaml")]
    parts = [path.name.encode() + b"\0" + path.read_bytes() for path in sorted(code) + sources]
    return digest(f"{__version__} {_SAMPLE_SIZE}", *parts)
