"""The data of `cache-teacher`, and the summary that it prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_reason.cli.arguments import CacheArguments
from hf_reason.data import DataError
from hf_reason.text import load_instructions

from .datasets import as_trained, first, load_records, reading_of
from .images import refuse_images
from .raw_data import prepared_places


def encoded_splits(args: CacheArguments, tokenizer: Any, speaks: bool = True) -> dict[str, Any]:
    """The splits that the arguments name, encoded, with the records' ids; only `train` has to be there.

    Args:
        args: Which records, and how they are written as text.
        tokenizer: The student's.
        speaks: Whether this process reports that raw data was prepared.
    """
    from hf_reason.trainers.cot_data import encode_records

    places = prepared_places(args.dataset_name or [], domain=args.domain, **reading_of(args), speaks=speaks)
    splits, instructions = {}, load_instructions(args.instructions)
    for split in args.splits:
        try:
            records = first(load_records(places, split, args.domain), args.max_records)
        except DataError:
            if split == "train":
                raise
            continue
        refuse_images({split: records}, "the teacher of a cache reads text alone (teacher_model_name_or_path)")
        trained: Any = as_trained(records, args.thinking)
        encoded = encode_records(trained, tokenizer, instructions, {"desc": f"Encoding {split}"})
        splits[split] = encoded.add_column("id", records["id"])  # type: ignore[call-arg]
    return splits


def cache_summary(meta: Mapping[str, Any], folder: Path, error: Mapping[str, float], student: str | None) -> str:
    """Size of a cache and the error of its KL.

    Args:
        meta: `CacheBuilder.finish()`.
        folder: Where it is.
        error: `CacheBuilder.error()`; empty if it was not measured.
        student: Name of the model that it was measured against.
    """
    records = sum(meta["shards"].values())
    lines = [
        f"{records} records, {meta['tokens']} target tokens, {meta['bytes_per_token']:.1f} bytes a token at "
        f"top_k={meta['top_k']} and {meta['tail_samples']} samples of the rest in "
        f"{len(meta['shards'])} files: {folder}"
    ]
    if meta["left_out"]:
        lines.append(f"{meta['left_out']} records over max_length={meta['max_length']} were left out.")
    if error:
        side = (
            student or "the teacher itself at twice its temperature (give --student_model_name_or_path for a real one)"
        )
        lines.append(
            f"KL to {side}: {error['kl']:.5f} nats a token over the vocabulary, {error['kl_cache']:.5f} from the "
            f"cache: error {error['relative_error']:.3%}; the top_k tokens hold {error['mass']:.4%} of the mass "
            f"({error['records']:.0f} records of the first split)."
        )
    return "\n".join(lines)
