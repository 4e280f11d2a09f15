"""The records of a run: which ones, and in which form they are trained."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_reason.cli.arguments import DataArguments, SourceArguments
from hf_reason.cli.generation_arguments import EvaluationArguments
from hf_reason.data import DataError, load_cot_sft_dataset
from hf_reason.data.record import record_features, with_equal_columns

from .images import have_images, refuse_images
from .raw_data import SAMPLE_NOTE, is_raw, prepared_places

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class Splits:
    """The records of a run.

    Attributes:
        train: Records that are trained on.
        validation: `None` if the run does not evaluate while it trains.
        test: What is evaluated at the end; `None` if the data has none.
        places: Prepared folders and Hub names that the records come from; empty: the built-in sample.
    """

    train: "Dataset"
    validation: "Dataset | None"
    test: "Dataset | None"
    places: list[str]


def load_splits(data: DataArguments, evaluation: EvaluationArguments, args: Any) -> Splits:
    """The splits of a training run; raw data is prepared first, and a missing test split is reported.

    Args:
        data: Which records.
        evaluation: How many test records.
        args: Training arguments: for the processes, and whether a validation split is needed.

    Raises:
        DataError: if training or validation records are missing.
    """
    places = places_of(data, args)  # a long preparation must not wait at a barrier, which has a timeout
    with args.main_process_first(desc="loading the data set"):
        train = load_records(places, "train", data.domain)
        validation = None
        if args.eval_strategy != "no":
            validation = load_records(places, "validation", data.domain)
        try:
            test = first(load_records(places, "test", data.domain), evaluation.max_test_records)
        except DataError as error:
            if args.process_index == 0:
                print(f"Note: {error} The model is not evaluated at the end.", file=sys.stderr)
            test = None
        if test is not None and not len(test):
            if args.process_index == 0 and evaluation.max_test_records != 0:
                print(
                    "Note: the test split has no records, so the model is not evaluated at the end. Prepare the data "
                    "with a larger --test_size.",
                    file=sys.stderr,
                )
            test = None
    found = Splits(first(train, data.max_train_records), validation, test, places)
    if not have_images(found.train):
        others = {"validation": validation, "test": test}
        refuse_images(others, "no training record has any: nothing is trained to read them")
    return found


def load_text_splits(why: str) -> Callable[[DataArguments, EvaluationArguments, Any], Splits]:
    """`load_splits` of a training that refuses records with images.

    Args:
        why: As `refuse_images` says it.
    """

    def load(data: DataArguments, evaluation: EvaluationArguments, args: Any) -> Splits:
        found = load_splits(data, evaluation, args)
        refuse_images({"train": found.train, "validation": found.validation, "test": found.test}, why)
        return found

    return load


def places_of(data: DataArguments, args: Any, names: Sequence[str] | None = None, **options: Any) -> list[str]:
    """`prepared_places` of a training run's `dataset_name` (or of other names), which the first process reports."""
    return prepared_places(
        (data.dataset_name or []) if names is None else names,
        **{"domain": data.domain, **reading_of(data), **options},
        num_proc=getattr(args, "dataset_num_proc", None),  # GRPO's have none
        speaks=args.process_index == 0,
    )


def reading_of(data: SourceArguments) -> dict[str, Any]:
    """How raw files are read."""
    return {"schema": data.schema, "skip_broken": data.skip_broken, "thought_tags": data.thought_tags}


def load_records(places: Sequence[str], split: str, domain: str = "all") -> "Dataset":
    """The records of a split from all places, each id once.

    Raises:
        DataError: if a place has no such split, or none of its records is of the domain.
    """
    from datasets import concatenate_datasets

    if len(places) < 2:
        return load_cot_sft_dataset(domain, split, places[0] if places else None)
    found = concatenate_datasets(with_equal_columns([load_cot_sft_dataset(domain, split, place) for place in places]))
    rows = {name: row for row, name in reversed(list(enumerate(found["id"])))}
    return found.select(sorted(rows.values()))


def load_evaluation_records(
    names: Sequence[str] | None,
    split: str = "test",
    domain: str = "all",
    *,
    schema: str | None = None,
    skip_broken: bool = False,
    thought_tags: Sequence[str] | None = None,
    max_records: int | None = None,
) -> "Dataset":
    """What `evaluate` measures on: a split of prepared data, or all of raw files.

    Raw files may hold questions and answers without chains, in any layout; nothing is filtered.

    Args:
        names: As `dataset_name`; `None`: the built-in sample.
        split: Split of prepared data.
        domain: Prepared data: only these records. Raw files: the domain of every record.
        schema: Layout of raw files; `None`: told by their columns.
        skip_broken: Count rows of raw files that cannot be read, instead of stopping at the first.
        thought_tags: Tags that enclose a thought in raw files, besides the known ones.
        max_records: Only the first ones.

    Raises:
        DataError: if there is nothing to read, or raw and prepared data are mixed.
    """
    from datasets import Dataset

    from hf_reason.data import read_evaluation_records

    names = list(names or [])
    if not names and os.environ.get("RANK", "0") == "0":
        print(SAMPLE_NOTE, file=sys.stderr)
    raw = [name for name in names if is_raw(name)]
    if not raw:
        return first(load_records(names, split, domain), max_records)
    if len(raw) < len(names):
        prepared = ", ".join(name for name in names if name not in raw)
        raise DataError(
            f"{', '.join(raw)} is raw data and {prepared} is prepared. Evaluate on them one after another."
        )
    tag = None if domain == "all" else domain
    records = read_evaluation_records(
        raw, schema, domain=tag, skip_broken=skip_broken, thought_tags=thought_tags or ()
    )
    rows: list[Any] = list(records)
    if any(row.get("images") for row in rows):  # the columns of the first row would be those of all
        rows = [{"images": [], "captions": [], **row} for row in rows]
        return first(Dataset.from_list(rows, features=record_features(images=True)), max_records)
    return first(Dataset.from_list(rows), max_records)


def first(records: "Dataset", count: int | None) -> "Dataset":
    """The first `count` records; `None`: all."""
    return records if count is None else records.select(range(min(count, len(records))))


def first_of_each(records: "Dataset", count: int | None) -> "Dataset":
    """The first `count` records of each domain; `None`: all."""
    seen: Counter[str] = Counter()
    rows = []
    for row, domain in enumerate(records["domain"]):
        seen[domain] += 1
        if count is None or seen[domain] <= count:
            rows.append(row)
    return records.select(rows)


def as_trained(records: "Dataset | None", thinking: bool) -> "Dataset | None":
    """The records as they are, or without their thoughts."""
    return records if thinking or records is None else records.map(lambda record: {"steps": []})
