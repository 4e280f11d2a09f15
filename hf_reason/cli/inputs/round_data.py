"""The records of a round of continual learning: new and old ones, and what the round is measured on."""

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_reason.cli.arguments import ContinualArguments, DataArguments
from hf_reason.data import DataError

from .datasets import load_records, places_of

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_reason.trainers import CoTSFTConfig

# Feedback is scarce: a tenth is tested on, and nothing is put aside for validation unless the run evaluates.
_TEST_SIZE = 0.1


@dataclass(frozen=True)
class RoundData:
    """Records of a round.

    Attributes:
        new: To be learned.
        old: For replay, of the old domains.
        new_test, old_test: To be measured on; a record is in one of them only, and the old ones do not train on it.
        old_domains: The domains of `old` that have test records.
        places: The prepared folders and Hub data sets of the new records.
    """

    new: "Dataset"
    old: "Dataset"
    new_test: "Dataset"
    old_test: "Dataset"
    old_domains: tuple[str, ...]
    places: list[str]


def load_round_data(data: DataArguments, round_args: ContinualArguments, args: "CoTSFTConfig") -> RoundData:
    """Load new and old records; raw ones are prepared first.

    New records without a test split are trained on and not measured, and old domains without test records are replayed
    and not measured; both are reported.

    Args:
        data: Names the new records and their domain.
        round_args: Names the old ones, and the domains of them that count.
        args: For the processes.

    Raises:
        DataError: if data cannot be read, an old domain has no record to train on, or none has one to test on.
    """
    sizes = {"validation_size": 0.0 if args.eval_strategy == "no" else _TEST_SIZE / 2, "test_size": _TEST_SIZE}
    # a long preparation must not wait at a barrier, which has a timeout
    places = places_of(data, args, sizes=sizes)
    old_places = places_of(data, args, round_args.old_dataset, domain="all")
    with args.main_process_first(desc="loading the records"):
        new = load_records(places, "train", data.domain)
        old = _old_records(old_places, round_args.old_domains)
        old_test = _old_tests(old_places, old)
        domains = tuple(sorted(set(old_test["domain"])))
        if args.process_index == 0 and (unmeasured := sorted(set(old["domain"]) - set(domains))):
            print(
                f"Note: {', '.join(old_places)} has no test record of {', '.join(unmeasured)}: these are replayed, "
                "and what the model forgets of them is not measured.",
                file=sys.stderr,
            )
        try:
            new_test = load_records(places, "test", data.domain)
        except DataError:
            new_test = new.select([])
        taken = {name for records in (old, old_test) for name in records["id"]}
        new_test = new_test.select([row for row, name in enumerate(new_test["id"]) if name not in taken])
        if not len(new_test) and args.process_index == 0:
            print(
                f"Note: {', '.join(places)} has no test record that the old data lack: the new records are learned "
                "without a test of their own.",
                file=sys.stderr,
            )
    return RoundData(new, old, new_test, old_test, domains, places)


def _old_tests(places: Sequence[str], old: "Dataset") -> "Dataset":
    """The test records of the domains of `old`; a place without a test split has none."""
    known = set(old["domain"])
    having = []
    for place in places:
        with suppress(DataError):
            load_records([place], "test")
            having.append(place)
    found = load_records(having, "test") if having else old.select([])
    found = found.select([row for row, domain in enumerate(found["domain"]) if domain in known])
    if not len(found):
        raise DataError(
            f"{', '.join(places)}: no old domain has a test record, so nothing would show what the round forgets. "
            "Prepare the old data with a larger --test_size, and with --domain if all of it is of one domain."
        )
    return found


def _old_records(places: Sequence[str], domains: Sequence[str] | None) -> "Dataset":
    """The training records of some domains from all places, each id once."""
    found = load_records(places, "train")
    if domains is None:
        return found
    _check_domains(found, domains, f"{', '.join(places)}, split train")
    return found.select([row for row, domain in enumerate(found["domain"]) if domain in domains])


def _check_domains(records: "Dataset", domains: Sequence[str], where: str) -> None:
    counts = Counter(records["domain"])
    for domain in domains:
        if not counts[domain]:
            there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "nothing"
            raise DataError(
                f"{where}: no record of the domain {domain!r}. There is: {there}. Name other old_domains, or add the "
                "folder that holds it to old_dataset."
            )
