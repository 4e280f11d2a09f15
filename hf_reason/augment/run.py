"""Operations on a data set: the training split with what they make, the other splits as they are, and a report.

What rules make is made anew in a run that continues; translations are kept on disk. The folder becomes a data set
only when all of it is written, so that a kill at any moment loses and doubles no record.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hf_reason._files import digest, write_json_atomically
from hf_reason.data.output_folder import alone_in
from hf_reason.data.prepare.writer import SplitWriter
from hf_reason.data.record import IMAGE_FIELDS, RECORD_FIELDS, DataError
from hf_reason.version import __version__

from .operation import (
    PROVENANCE,
    Counts,
    LeftOut,
    Operation,
    augmented_features,
    chosen,
    chosen_ids,
    provenance_of,
    seed_of,
)

if TYPE_CHECKING:
    from datasets import Dataset

TRAIN = "train"
REPORT, WORK, MARK = "augment.json", ".augment", "dataset_dict.json"


def augment(
    splits: Mapping[str, "Dataset"],
    operations: Sequence[Operation],
    output_dir: str | Path,
    *,
    seed: int = 0,
    replace: bool = False,
    overwrite: bool = False,
    preparation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the splits with what the operations make of the training records.

    Every operation works on the records that came in, not on those of another operation. What it makes of a record
    stands right after the record. The order of the records, their ids and all other splits stay.

    Args:
        splits: Name -> records, `train` among them; a column `provenance` is kept.
        operations: What is done, each name once.
        output_dir: The folder: a data set as `prepare` writes it, with the column `provenance`; files of operations
            whose rows are no records; `augment.json`, the report.
        seed: Of everything that is random.
        replace: Leave out a record where an operation has made another record of it.
        overwrite: Replace what other settings or other records have made.
        preparation: The report of `prepare` on these splits, which the report keeps for model cards.

    Returns:
        The report.

    Raises:
        DataError: if there is no operation or training record, the folder holds something else, or another run is
            writing there.
    """
    if not operations:
        raise DataError("there is no operation: choose distractors, back_translation, captions or step_pairs.")
    if TRAIN not in splits or not len(splits[TRAIN]):
        raise DataError(f"there are no training records; the data has the splits {', '.join(splits) or 'none'}.")
    folder = Path(output_dir)
    with alone_in(folder):
        settings = _settings(splits, operations, seed, replace)
        if (report := _finished(folder, settings, overwrite)) is not None:
            return report
        names = [*splits, *(each.file for each in operations if each.file)]
        _check_free(folder, names)
        train = splits[TRAIN]
        ids = {each.name: _chosen(each, train, seed) for each in operations}
        for operation in operations:
            others = [split for name, split in splits.items() if name != TRAIN and _is_everywhere(operation)]
            operation.prepare(chain(chosen(_rows(train), ids[operation.name]), *map(_rows, others)))
        building = folder / WORK / "building"
        shutil.rmtree(building, ignore_errors=True)
        builder = _Builder(operations, ids, building, seed)
        with builder.stack:
            report = builder.build(splits, replace)
        report |= {"settings": settings, "made_by": f"hf_reason {__version__}"}
        if preparation is not None:
            report["preparation"] = dict(preparation)
        _move(building, folder, names, report)
    return report


def _chosen(operation: Operation, train: "Dataset", seed: int) -> set[str]:
    candidates = getattr(operation, "candidates", None)
    ids = train["id"] if candidates is None else candidates(_rows(train))
    if not len(ids):
        raise DataError(f"{operation.name}: none of the training records has what it needs (images). Leave it out.")
    return chosen_ids(ids, operation.name, operation.fraction, seed)


def _is_everywhere(operation: Operation) -> bool:
    return bool(getattr(operation, "everywhere", False))


def _settings(
    splits: Mapping[str, "Dataset"], operations: Sequence[Operation], seed: int, replace: bool
) -> dict[str, Any]:
    """What shapes the result. Plain values."""
    found = {
        "data": {name: digest(*_content(data), size=16) for name, data in splits.items()},
        "seed": seed,
        "replace": replace,
        "operations": {each.name: {"fraction": each.fraction, **each.settings()} for each in operations},
    }
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _content(data: "Dataset") -> Iterator[str]:
    return (json.dumps(row, sort_keys=True, default=digest) for row in _rows(data))


def _rows(data: "Dataset") -> Iterator[dict[str, Any]]:
    """The records of a split, with their provenance."""
    names = [*RECORD_FIELDS, *(name for name in IMAGE_FIELDS if name in data.column_names)]
    for row in data:
        yield {**{name: row[name] for name in names}, PROVENANCE: list(row.get(PROVENANCE) or ())}


def _finished(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """The report of a folder that is finished with these settings; `None`: there is work to do.

    Raises:
        DataError: if something else is there.
    """
    if not (folder / MARK).exists():
        return None
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        before = report["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder} holds a data set that augment has not made. Choose another output_dir.") from None
    if before == settings:
        return None if report.get("failures") else report  # what has failed is asked again
    if not overwrite:
        changed = [name for name in settings if before.get(name) != settings[name]]
        raise DataError(
            f"{folder} was made with other settings or records ({', '.join(changed)}). Choose another output_dir, or "
            "replace it with overwrite."
        )
    return None


class _Builder:
    """Writes splits and files into a folder, and counts."""

    def __init__(
        self, operations: Sequence[Operation], ids: Mapping[str, set[str]], building: Path, seed: int
    ) -> None:
        building.mkdir(parents=True)
        self.operations, self.ids, self.building, self.seed = operations, ids, building, seed
        self.counts = {each.name: Counts() for each in operations}
        self.kept = self.equal = 0
        self.stack = ExitStack()
        self.files: dict[str, TextIO] = {}
        for each in operations:
            if each.file:
                file = open(building / each.file, "w", encoding="utf-8")  # noqa: SIM115 (the stack closes it)
                self.files[each.name] = self.stack.enter_context(file)

    def build(self, splits: Mapping[str, "Dataset"], replace: bool) -> dict[str, Any]:
        """Everything; returns the report."""
        images = any("images" in data.column_names for data in splits.values())
        features, sizes = augmented_features(images), {}
        seen: set[str] = set(splits[TRAIN]["id"])
        for name, data in splits.items():
            writer = SplitWriter(self.building / name, name, features)
            for record in _rows(data):
                if name == TRAIN:
                    made, stays = self._made(record, seen)
                    stays = stays and not (replace and made)
                    self.kept += stays
                else:
                    made, stays = self._elsewhere(record)
                for row in [record, *made] if stays else made:
                    writer.add(row)  # type: ignore[arg-type]
            writer.close()
            sizes[name] = writer.rows
        failures: Counter[str] = Counter()
        for operation in self.operations:
            self.counts[operation.name].parts.update(getattr(operation, "parts", {}))
            failures.update(getattr(operation, "failures", {}))
        counted = {name: count.as_dict() for name, count in self.counts.items()}
        numbers = {"in": len(splits[TRAIN]), "kept": self.kept, "equal": self.equal, "operations": counted}
        return {"counts": numbers, "splits": sizes, "failures": dict(failures)}

    def _elsewhere(self, record: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """What stands in another split in the place of a record, and whether it stays."""
        for operation in filter(_is_everywhere, self.operations):
            seed = seed_of(self.seed, operation.name, record["id"])
            made = operation.apply(_plain(record), seed)
            if isinstance(made, list):
                rows = [{**item.row, PROVENANCE: provenance_of(record, operation, seed, item.detail)} for item in made]
                return rows, not rows
            if isinstance(made, LeftOut):
                return [], False
        return [], True

    def _made(self, record: Mapping[str, Any], seen: set[str]) -> tuple[list[dict[str, Any]], bool]:
        """The records that the operations make of one, and whether it may stay; rows of files are written."""
        records, stays = [], True
        for operation in self.operations:
            if record["id"] not in self.ids[operation.name]:
                continue
            count, seed = self.counts[operation.name], seed_of(self.seed, operation.name, record["id"])
            count.chosen += 1
            made = operation.apply(_plain(record), seed)
            if not isinstance(made, list):
                stays = stays and isinstance(made, str)
                count.left_out += not isinstance(made, str)
                count.refused[made if isinstance(made, str) else made.why] += 1
                continue
            for item in made:
                row = {**item.row, PROVENANCE: provenance_of(record, operation, seed, item.detail)}
                if operation.file:
                    self.files[operation.name].write(json.dumps(row, ensure_ascii=False) + "\n")
                elif row["id"] in seen:
                    self.equal += 1
                    continue
                else:
                    seen.add(row["id"])
                    records.append(row)
                count.made += 1
        return records, stays


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != PROVENANCE}


def _check_free(folder: Path, names: Sequence[str]) -> None:
    """Refuse a folder that holds what another command has written.

    Raises:
        DataError: if it does.
    """
    former = _former(folder)
    if foreign := [name for name in names if (folder / name).exists() and name not in former]:
        raise DataError(
            f"{folder} already holds {', '.join(foreign)}, which augment has not made. Choose another output_dir."
        )


def _move(building: Path, folder: Path, names: Sequence[str], report: Mapping[str, Any]) -> None:
    """Put what is built in its place; the file that makes a data set of the folder goes first and comes last."""
    (folder / MARK).unlink(missing_ok=True)
    for name in _former(folder):
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    # the report before the data: a folder of whose splits only some are there can be told to be ours
    write_json_atomically(folder / REPORT, {**report, "files": list(names)})
    for name in names:
        os.replace(building / name, folder / name)
    splits = [name for name in names if (folder / name).is_dir()]
    write_json_atomically(folder / MARK, {"splits": splits}, indent=None)
    shutil.rmtree(building, ignore_errors=True)


def _former(folder: Path) -> list[str]:
    """What an earlier run has put there, finished or not."""
    try:
        names = json.loads((folder / REPORT).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in names if (folder / str(name)).exists()]
