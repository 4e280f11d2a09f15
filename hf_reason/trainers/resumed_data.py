"""What a checkpoint says about its data, so that a resume on other ones is noticed."""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from hf_reason._files import write_json_atomically
from hf_reason.trainers.sampling.order import token_chunks

logger = logging.getLogger(__name__)

DATA_FILE = "training_data.json"
# What shapes the order, and how the message calls it.
_ORDER = {
    "processes": "number of processes",
    "examples_per_step": "examples of a step (batch size x accumulation x processes)",
    "seed": "seed",
}


def fingerprint(dataset: Any) -> str | None:
    """A hash of the examples' tokens and labels in their order; `None` for a stream, which is not read yet."""
    columns = getattr(dataset, "column_names", None) or ()
    if hasattr(dataset, "_ex_iterable") or not {"input_ids", "labels"} <= set(columns):
        return None
    found = hashlib.blake2b(digest_size=8)
    for starts, parts in token_chunks(dataset, "input_ids", "labels"):
        for values in (starts, *parts):
            found.update(values.astype("int64").tobytes())
    return found.hexdigest()


def save_data_facts(folder: str | os.PathLike[str], dataset: Any, args: Any) -> None:
    """Write what the run is trained on into a checkpoint."""
    write_json_atomically(Path(folder, DATA_FILE), _facts(dataset, args))


def check_data_facts(folder: str | os.PathLike[str], dataset: Any, args: Any) -> None:
    """Compare a checkpoint's data with the present ones.

    Another order (other processes, batches or seed) is said: the examples that were read before the checkpoint are not
    those that are skipped now.

    Raises:
        ValueError: if the examples are others, unless `ignore_data_skip` says that they are to begin anew.
    """
    try:
        before = json.loads(Path(folder, DATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # of version 0.2.0 or older, or TRL's
    now = _facts(dataset, args)
    if args.ignore_data_skip:
        return
    if None not in (before.get("data"), now["data"]) and before["data"] != now["data"]:
        raise ValueError(
            f"{folder} was trained on other examples ({before.get('rows')} then, {now['rows']} now, or other texts, "
            "order or template): the position in the data means nothing there. Train on the same data, begin anew, or "
            "set ignore_data_skip=True to train this model further on the new data from their first example."
        )
    changed = [
        f"{name} {before[key]} -> {now[key]}" for key, name in _ORDER.items() if before.get(key, now[key]) != now[key]
    ]
    if changed:
        logger.warning(
            "%s: the run is resumed with another %s, so examples that it has read may come again and others not at "
            "all in this epoch.",
            folder,
            ", ".join(changed),
        )


def _facts(dataset: Any, args: Any) -> dict[str, Any]:
    batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {
        "data": fingerprint(dataset),
        "rows": len(dataset) if hasattr(dataset, "__len__") else None,
        "processes": args.world_size,
        "examples_per_step": batch,
        "seed": args.seed if args.data_seed is None else args.data_seed,
    }
