"""What a model is worth and what it weighs: the figures that are compared before and after a compression."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_reason.evaluation import evaluate_model
from hf_reason.text.spans import encode

from .gate import Measured

_REFERENCES = 64


def measure(
    model: Any,
    tokenizer: Any,
    records: Sequence[Mapping[str, Any]],
    *,
    folder: str | os.PathLike[str] | None = None,
    instructions: Mapping[str, str] | None = None,
    **options: Any,
) -> Measured:
    """Evaluate a model on records and weigh it.

    Args:
        model: On its device.
        tokenizer: Its tokenizer.
        records: Held-out problems; those with steps also give the perplexity (of the first 64).
        folder: Where its weights are saved, for their size on disk.
        instructions: Template of each domain.
        **options: Further arguments of `evaluate_model`.
    """
    began = time.perf_counter()
    result = evaluate_model(
        model, tokenizer, records, instructions=instructions, return_predictions=True, progress=False, **options
    )
    seconds = time.perf_counter() - began
    written = sum(row["num_tokens"] for row in result.predictions or ())
    chains = [record for record in records if record["steps"] and record["answer"]][:_REFERENCES]
    return Measured(
        result,
        perplexity=perplexity(model, [encode(record, tokenizer, instructions=instructions) for record in chains]),
        disk_bytes=None if folder is None else disk_bytes(folder),
        memory_bytes=memory_bytes(model),
        tokens_per_second=written / seconds if written else None,
    )


@torch.no_grad()
def perplexity(model: Any, examples: Sequence[Mapping[str, Sequence[int]]]) -> float | None:
    """`exp` of the mean loss of a target token of encoded records; `None` without any."""
    device, total, count = next(model.parameters()).device, 0.0, 0
    for example in examples:
        ids, labels = (torch.tensor([list(example[name])], device=device) for name in ("input_ids", "labels"))
        targets = int((labels[:, 1:] != -100).sum())
        if targets:
            outputs = model(input_ids=ids, labels=labels, attention_mask=torch.ones_like(ids), use_cache=False)
            total, count = total + float(outputs.loss) * targets, count + targets
    return math.exp(min(total / count, 700.0)) if count else None


def disk_bytes(folder: str | os.PathLike[str]) -> int | None:
    """Bytes of the files of weights in a folder; `None` if there are none."""
    sizes = [path.stat().st_size for path in Path(folder).glob("*.safetensors")]
    return sum(sizes) or None


def memory_bytes(model: Any) -> int:
    """Bytes of the parameters and buffers, tied ones once."""
    seen = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in seen.values())
