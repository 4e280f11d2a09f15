"""The records of a compression: problems to calibrate and recover on, and other ones that judge the result."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hf_reason.cli.compression_arguments import CompressionArguments
from hf_reason.data import DataError, read_evaluation_records

from .datasets import first, load_evaluation_records, load_records
from .images import refuse_images
from .raw_data import is_raw, prepared_places

_TEXT_ALONE = "a model is compressed and compared on text alone"


def load_problems(args: CompressionArguments) -> tuple[Any, Any]:
    """The records of `dataset_name`, and those on which both models are compared.

    Raw files of questions and answers without chains are problems too, if `eval_dataset_name` says what to compare
    on; problems that are in both are left out of the first.

    Raises:
        DataError: if there is nothing to read, or nothing to compare on.
    """
    reading: Any = {"schema": args.schema, "skip_broken": args.skip_broken}
    questions = _questions(args.dataset_name or [], args)
    if questions is not None and args.eval_dataset_name is None:
        raise DataError(
            f"{', '.join(args.dataset_name or [])} has questions and answers without chains, so there are no splits: "
            "give --eval_dataset_name, other problems on which both models are compared."
        )
    places = [] if questions is not None else prepared_places(args.dataset_name or [], domain=args.domain, **reading)
    judged = args.eval_dataset_name or places
    test = load_evaluation_records(judged, args.split, args.domain, max_records=args.max_records, **reading)
    train = questions if questions is not None else load_records(places, "train", args.domain)
    refuse_images({"the training split": train}, _TEXT_ALONE)
    given = "dataset_name" if args.eval_dataset_name is None else "eval_dataset_name"
    refuse_images({"the problems to compare on": test}, _TEXT_ALONE, given)
    if args.eval_dataset_name is None:
        return train, test
    known = {record["context"] for record in test}
    apart = train.filter(lambda context: context not in known, input_columns="context")
    if len(apart) < len(train):
        print(f"Note: {len(train) - len(apart)} problems of both are used for the comparison only.", file=sys.stderr)
    if not len(apart):
        raise DataError("every problem of dataset_name is in eval_dataset_name too: give other ones.")
    return apart, test


def _questions(names: Sequence[str], args: CompressionArguments) -> Any:
    """The records of raw files without a single chain; `None` for anything else."""
    from datasets import Dataset

    if not names or not all(Path(name).exists() and is_raw(name) for name in names):
        return None
    domain = None if args.domain == "all" else args.domain
    records = read_evaluation_records(names, args.schema, domain=domain, skip_broken=args.skip_broken)
    if any(record["steps"] for record in records):
        return None
    # before they are a data set, which has the columns of its first row
    refuse_images({"the problems": records}, _TEXT_ALONE)
    return first(Dataset.from_list(list(map(dict, records))), None)
