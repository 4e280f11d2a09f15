"""`dataset_name`: prepared folders and Hub data sets as they are, raw ones prepared on the fly into the cache."""

import json
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason.data import DataError
from hf_reason.data.record import RECORD_FIELDS

if TYPE_CHECKING:
    from hf_reason.data import PrepareConfig

# A validation split even where a run does not evaluate: every command then sees the same training records.
SIZES = {"validation_size": 0.05, "test_size": 0.1}
SAMPLE_NOTE = "No dataset_name is given: the built-in sample is used."
_SHOWN = 8


def is_raw(name: str) -> bool:
    """Whether a `dataset_name` has to be prepared: a file, a folder of files, or a Hub data set without records.

    Raises:
        DataError: for the folder of a preparation that kept no record.
    """
    path = Path(name)
    if path.is_file():
        return True
    if path.is_dir():
        if any((path / mark).exists() for mark in ("dataset_dict.json", "state.json", ".work")):
            return False  # prepared, one split of it, or unfinished: the loader says what is wrong
        _check_not_empty(path)
        return True
    return not name.startswith((".", "/", "~")) and name.count("/") <= 1 and _hub_is_raw(name)


def _check_not_empty(folder: Path) -> None:
    """Refuse the report of a preparation that kept nothing; its JSON would be read as raw data."""
    try:
        counts = json.loads((folder / "report.json").read_text(encoding="utf-8"))["counts"]
        came_in, kept = int(counts["in"]), int(counts["out"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if kept == 0:
        raise DataError(
            f"{folder} is the result of a preparation that kept none of {came_in} records: there is nothing to read. "
            f"{folder}/report.html says which filters dropped them; prepare the raw files again with other filters."
        )


@lru_cache
def _hub_is_raw(name: str) -> bool:
    """Whether a Hub data set lacks the columns of records; one that cannot be read is left to the loader's error."""
    from datasets import load_dataset

    if ":" in name:  # with a configuration, which only the reader of raw data knows
        return True
    try:
        first = next(iter(next(iter(load_dataset(name, streaming=True).values()))))
    except Exception:  # offline, no such data set, no permission
        return False
    return not set(RECORD_FIELDS) <= set(first)


def prepared_places(
    names: Sequence[str],
    *,
    domain: str = "all",
    schema: str | None = None,
    skip_broken: bool = False,
    thought_tags: Sequence[str] | None = None,
    sizes: Mapping[str, float] | None = None,
    num_proc: int | None = None,
    speaks: bool = True,
) -> list[str]:
    """Where the records of `dataset_name` are; what is raw among it is prepared together, once.

    Safe to call from several processes at once, and after one of them was killed: the first prepares (from where the
    killed one stopped), the others wait for it.

    Args:
        names: Prepared folders, raw files, folders of raw files, names on the Hub.
        domain: Domain of every raw record; `"all"`: told by keywords.
        schema: Layout of the raw files; `None`: told by their columns.
        skip_broken: Count raw rows that cannot be read, instead of stopping at the first.
        thought_tags: Tags that enclose a thought in raw files, besides the known ones.
        sizes: `validation_size` and `test_size` of raw data; default `SIZES`.
        num_proc: Processes of a preparation.
        speaks: Whether this process prints what is kept and dropped.

    Returns:
        Prepared folders and names of prepared Hub data sets.

    Raises:
        DataError: if the raw data cannot be read, or nothing of it is left.
    """
    from hf_reason.data import PrepareConfig

    if not names and speaks:
        print(SAMPLE_NOTE, file=sys.stderr)
    places = [str(Path(name).expanduser()) if name.startswith("~") else name for name in names]
    raw = [place for place in places if is_raw(place)]
    prepared = [place for place in places if place not in raw]
    if not raw:
        return prepared
    config = PrepareConfig(
        schema=schema,
        skip_broken=skip_broken,
        thought_tags=list(thought_tags or ()),
        domain=None if domain == "all" else domain,
        **(SIZES if sizes is None else sizes),
    )
    return [*prepared, str(_prepared(raw, config, num_proc or 1, speaks))]


def _prepared(names: list[str], config: "PrepareConfig", num_proc: int, speaks: bool) -> Path:
    from filelock import FileLock

    from hf_reason.data import prepare

    folder = cache_folder(names, config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    how = "raw data" if finished_report(folder) is None else "prepared before"
    with FileLock(f"{folder}.lock"):
        report = finished_report(folder)
        if report is None:
            print(f"Preparing the raw data of {_listed(names)} in {folder}.", file=sys.stderr, flush=True)
            report = prepare(names, folder, config, num_proc=num_proc, progress=sys.stderr.isatty())
    if speaks:
        print(_summary(names, how, report, config, folder))
    return folder


def cache_folder(names: Sequence[str], config: "PrepareConfig") -> Path:
    """The folder of this raw data with these settings: another content, setting or version has another one."""
    from huggingface_hub import constants

    from hf_reason.data.prepare.settings import describe_settings, fingerprint

    key = fingerprint(describe_settings(list(names), config))
    return Path(constants.HF_HOME) / "hf_reason" / f"{Path(names[0]).stem[:40]}-{key}"


def finished_report(folder: Path) -> dict[str, Any] | None:
    """The report of a finished preparation."""
    if (folder / ".work").exists() or not (folder / "dataset_dict.json").is_file():
        return None
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _summary(names: Sequence[str], how: str, report: Mapping[str, Any], config: "PrepareConfig", folder: Path) -> str:
    from hf_reason.data.prepare.report import unknown_tag_notes

    counts = report["counts"]
    dropped = ", ".join(f"{name} {count}" for name, count in counts["filters"].items() if count) or "nothing"
    tags = "".join(f"\nNote: {note}" for note in unknown_tag_notes(report))
    domain = f"; the domain of each is {config.domain}" if config.domain else ""
    return (
        f"{_listed(names)} ({how}): {counts['in']} records, {counts['out']} kept{domain}; dropped: {dropped} "
        f"({folder}/report.html){tags}"
    )
