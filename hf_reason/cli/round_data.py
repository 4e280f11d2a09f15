"""The records of a round of continual learning: new and old ones, and what the round is measured on."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_reason.data import DataError, load_cot_sft_dataset

from .datasets import DataArguments

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers import CoTSFTConfig

NEW_DATA = "_new_data"  # the Trainer pushes no name that begins so: feedback is not the public's


@dataclass(frozen=True)
class RoundData:
    """Records of a round.

    Attributes:
        new: To be learned.
        old: For replay, of the old domains.
        new_test, old_test: To be measured on; a record is in one of them only, and the old ones do not train on it.
        old_domains: The domains of `old`, each with test records.
        place: The prepared folder, or the Hub data set, of the new records.
    """

    new: "Dataset"
    old: "Dataset"
    new_test: "Dataset"
    old_test: "Dataset"
    old_domains: tuple[str, ...]
    place: str


def load_round_data(
    data: DataArguments, old_datasets: Sequence[str], old_domains: Sequence[str] | None, args: "CoTSFTConfig"
) -> RoundData:
    """Load new and old records; a raw file of new ones is prepared into the output folder first.

    New records without a test split are trained on and not measured, which is said.

    Args:
        data: Names the new records and their domain.
        old_datasets: Prepared folders or Hub data sets of the rounds before.
        old_domains: Domains of them; `None`: all.
        args: For the output folder and the processes.

    Raises:
        DataError: if data cannot be read, or an old domain has no record to train or to test on.
    """
    assert data.dataset is not None
    with args.main_process_first(desc="loading the records"):
        place = _prepared(data.dataset, args)
        new = load_cot_sft_dataset(data.domain, "train", place)
        old, old_test = (_old_records(old_datasets, split, old_domains) for split in ("train", "test"))
        domains = tuple(sorted(set(old["domain"])))
        _check_domains(old_test, domains, f"{', '.join(old_datasets)}, split test")
        try:
            new_test = load_cot_sft_dataset(data.domain, "test", place)
        except DataError:
            new_test = new.select([])
        taken = {name for records in (old, old_test) for name in records["id"]}
        new_test = new_test.select([row for row, name in enumerate(new_test["id"]) if name not in taken])
        if not len(new_test) and args.process_index == 0:
            print(
                f"Note: {place} has no test record that the old data lack: the new records are learned without a test "
                "of their own.",
                file=sys.stderr,
            )
    return RoundData(new, old, new_test, old_test, domains, place)


def _old_records(places: Sequence[str], split: str, domains: Sequence[str] | None) -> "Dataset":
    """The records of some domains from all places, each id once."""
    from datasets import concatenate_datasets

    found = concatenate_datasets([load_cot_sft_dataset("all", split, place) for place in places])
    if domains is not None:
        _check_domains(found, domains, f"{', '.join(places)}, split {split}")
    seen: set[str] = set()
    rows = []
    for row, (name, domain) in enumerate(zip(found["id"], found["domain"], strict=True)):
        if name not in seen and (domains is None or domain in domains):
            seen.add(name)
            rows.append(row)
    return found.select(rows)


def _check_domains(records: "Dataset", domains: Sequence[str], where: str) -> None:
    counts = Counter(records["domain"])
    for domain in domains:
        if not counts[domain]:
            there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "nothing"
            raise DataError(
                f"{where}: no record of the domain {domain!r}. There is: {there}. Name other old_domains, or add the "
                "folder that holds it to old_dataset."
            )


def first_of_each(records: "Dataset", limit: int | None) -> "Dataset":
    """The first `limit` records of each domain."""
    seen: Counter[str] = Counter()
    rows = []
    for row, domain in enumerate(records["domain"]):
        seen[domain] += 1
        if limit is None or seen[domain] <= limit:
            rows.append(row)
    return records.select(rows)


def _prepared(dataset: str, args: "CoTSFTConfig") -> str:
    """The new records as a prepared folder; a raw file (feedback, say) is prepared into the output folder."""
    from hf_reason.data import prepare

    if not os.path.isfile(dataset):
        return dataset
    folder = Path(str(args.output_dir), NEW_DATA)
    if args.process_index == 0:
        report = prepare([dataset], folder, validation_share=0.0, test_share=0.1, progress=False)
        counts = report["counts"]
        taken = ", ".join(f"{name} {count}" for name, count in counts["filters"].items() if count) or "nothing"
        print(f"{dataset}: {counts['in']} records, {counts['out']} kept; left out: {taken} ({folder}/report.html)")
    return str(folder)
