"""Arguments, data and the last words of `recipes/cache_teacher.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_reason.data import DataError, load_cot_sft_dataset
from hf_reason.text import load_instructions


@dataclass
class CacheArguments:
    """What `recipes/cache_teacher.py` takes."""

    dataset: str = field(metadata={"help": "Prepared folder or Hub data set."})
    teacher: str = field(metadata={"help": "A model's name or folder, or the URL of an OpenAI-compatible server."})
    output_dir: str | None = field(default=None, metadata={"help": "Default: <dataset>-teacher."})
    splits: list[str] = field(default_factory=lambda: ["train", "validation"], metadata={"help": "What is cached."})
    domain: str = field(default="all", metadata={"help": "One domain, or all."})
    k: int = field(default=32, metadata={"help": "Tokens kept of each distribution."})
    tail_samples: int = field(
        default=8, metadata={"help": "Tokens drawn from the rest of each, for an unbiased KL. A served teacher: 0."}
    )
    temperature: float = field(default=1.0, metadata={"help": "That of the training."})
    path: bool = field(default=False, metadata={"help": "Keep the similarities between steps (path_weight)."})
    instructions: str | None = field(
        default=None, metadata={"help": "YAML with a template of each domain, or 'default', as in the training."}
    )
    thinking: bool = field(default=True, metadata={"help": "False: the answers without their thoughts."})
    max_length: int = field(default=4096, metadata={"help": "Longer records are left out, in tokens."})
    max_records: int | None = field(default=None, metadata={"help": "Only the first records of each split."})
    tokenizer: str | None = field(default=None, metadata={"help": "The student's tokenizer. Default: the teacher's."})
    teacher_tokenizer: str | None = field(default=None, metadata={"help": "Needed with a served teacher."})
    teacher_served_model: str | None = field(default=None, metadata={"help": "Model name on the server."})
    teacher_model_init_kwargs: str | None = field(
        default=None, metadata={"help": 'JSON for from_pretrained: {"dtype": "bfloat16", "load_in_4bit": true, ...}'}
    )
    student: str | None = field(default=None, metadata={"help": "Measure the error of the KL against this model."})
    batch_size: int = field(default=8, metadata={"help": "Records that the teacher reads at once."})
    rows_per_shard: int = field(default=1000, metadata={"help": "Records in a file; what a stop can lose."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code from the Hub."})
    use_cpu: bool = field(default=False, metadata={"help": "Do not use an accelerator."})


def encoded_splits(args: CacheArguments, tokenizer: Any) -> dict[str, Any]:
    """The splits that the arguments name, encoded, with the records' ids; only `train` has to be there."""
    from hf_reason.trainers.cot_data import encode_records

    splits, instructions = {}, load_instructions(args.instructions)
    for split in args.splits:
        try:
            records = load_cot_sft_dataset(args.domain, split, args.dataset)
        except DataError:
            if split == "train":
                raise
            continue
        records = records.select(range(min(args.max_records or len(records), len(records))))
        if not args.thinking:
            records = records.map(lambda record: {"steps": []})
        encoded = encode_records(records, tokenizer, instructions, {"desc": f"Encoding {split}"})
        splits[split] = encoded.add_column("id", records["id"])  # type: ignore[call-arg]
    return splits


def cache_summary(meta: Mapping[str, Any], folder: Path, error: Mapping[str, float], student: str | None) -> str:
    """Size of a cache and the error of its KL.

    Args:
        meta: `CacheBuilder.finish()`.
        folder: Where it lies.
        error: `CacheBuilder.error()`; empty if it was not measured.
        student: Name of the model that it was measured against.
    """
    records = sum(meta["shards"].values())
    lines = [
        f"{records} records, {meta['tokens']} target tokens, {meta['bytes_per_token']:.1f} bytes a token at "
        f"k={meta['k']} and {meta['tail_samples']} samples of the rest in {len(meta['shards'])} files: {folder}"
    ]
    if meta["left_out"]:
        lines.append(f"{meta['left_out']} records over max_length={meta['max_length']} were left out.")
    if error:
        side = student or "the teacher itself at twice its temperature (give --student for a real one)"
        lines.append(
            f"KL to {side}: {error['kl']:.5f} nats a token over the vocabulary, {error['kl_cache']:.5f} from the "
            f"cache: error {error['relative_error']:.3%}; the k tokens hold {error['mass']:.4%} of the mass "
            f"({error['records']:.0f} records of the first split)."
        )
    return "\n".join(lines)
