"""`load_cot_sft_dataset`: records of one domain, or of all, as a `datasets.Dataset`."""

import hashlib
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hf_reason.version import __version__

from .record import DOMAINS, RECORD_FIELDS, DataError

if TYPE_CHECKING:
    import datasets

_SAMPLE = Path(__file__).with_name("sample")
_RAW_ENDINGS = (".jsonl", ".json", ".csv", ".parquet")
# The sample is small: with the usual 5% some domains would have nothing to test on.
_SAMPLE_SHARE = 0.1
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def load_cot_sft_dataset(
    domain: str = "all", split: str = "train", data_dir: str | os.PathLike[str] | None = None
) -> "datasets.Dataset":
    """Load prepared records.

    Args:
        domain: one of `DOMAINS`, or `"all"`.
        split: `"train"`, `"validation"` or `"test"`, if the data set has it.
        data_dir: a folder that `prepare` wrote, the name of such a data set on the Hub, or `None` for the built-in
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
            f"{', '.join(data.column_names)}). Prepare it first: python recipes/prepare_data.py --input {name} "
            "--output_dir prepared"
        )
    data = data.select_columns(list(RECORD_FIELDS))
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


def _open(place: str) -> "datasets.DatasetDict":
    from datasets import load_dataset, load_from_disk

    path = Path(place).expanduser()
    if path.is_dir():
        if not (path / "dataset_dict.json").exists():
            raise DataError(_why_not_prepared(path))
        return load_from_disk(str(path))
    if path.exists():
        raise DataError(
            f"{place} is a file, not a prepared folder. Prepare it first: python recipes/prepare_data.py "
            f"--input {place} --output_dir prepared"
        )
    if not _HUB_NAME.fullmatch(place):
        raise DataError(f"{place}: there is no such folder.")
    try:
        return load_dataset(place)
    except Exception as error:  # offline, not found, no permission, not a data set: one message for the user
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{place} is neither a folder here nor a data set that the Hub gives ({type(error).__name__}: {reason})."
        ) from error


def _why_not_prepared(path: Path) -> str:
    if (path / ".work").exists():
        return f"{path} holds an unfinished preparation. Run prepare_data with the same arguments again to finish it."
    if (path / "state.json").exists():
        return f"{path} is one split of a data set. Give its parent folder: {path.parent}."
    names = sorted(entry.name for entry in path.iterdir())
    there = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    return (
        f"{path} is not a prepared data set: it holds {there}. Prepare it first: python recipes/prepare_data.py "
        f"--input {path} --output_dir prepared"
    )


def sample_files() -> list[Path]:
    """The raw files of the built-in sample."""
    return sorted(path for path in _SAMPLE.iterdir() if path.suffix in _RAW_ENDINGS)


def sample_folder() -> Path:
    """The prepared built-in sample; prepared now if the cache does not hold this version of it yet."""
    from huggingface_hub.constants import HF_HOME

    from hf_reason.data.prepare.pipeline import prepare

    sources = sample_files()
    target = Path(HF_HOME) / "hf_reason" / f"sample-{_sample_version(sources)}"
    if (target / "report.json").exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Prepared beside it and renamed, so that another process sees all of it or nothing.
    building = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=target.parent))
    try:
        prepare(sources, building, validation_share=_SAMPLE_SHARE, test_share=_SAMPLE_SHARE, progress=False)
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
    digest = hashlib.blake2b(f"{__version__} {_SAMPLE_SHARE}".encode(), digest_size=8)
    for path in sorted(code) + sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
