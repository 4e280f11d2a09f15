"""Lengths in tokens, for the report of a preparation: of a sample, as a tokenizer reads a few megabytes a second."""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hf_reason._files import digest
from hf_reason.data.record import DataError, Record


@lru_cache(maxsize=1)
def load_tokenizer(name: str) -> Any:
    """A tokenizer.

    Raises:
        DataError: if it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # a missing folder, no network, a broken file: each has its own type
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"tokenizer_name_or_path {name}: it cannot be loaded ({reason[0]}). Name a model's folder or a Hub name."
        ) from error


def describe_tokenizer(name: str) -> dict[str, str]:
    """The tokenizer as the settings name it: by its last component, and by what is in it.

    Raises:
        DataError: if it cannot be loaded.
    """
    tokenizer = load_tokenizer(name)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return {"name": Path(name).name if Path(name).is_dir() else name, "blake2b": digest(content, size=16)}


def token_lengths(records: Sequence[Record], name: str) -> dict[str, "array[int]"]:
    """Tokens of the context (with the task), the chain and the answer of each record, and of all three."""
    tokenizer = load_tokenizer(name)
    parts = {
        "context": [f"{record['context']}\n{record['task']}".strip() for record in records],
        "chain": ["\n".join(record["steps"]) for record in records],
        "answer": [record["answer"] for record in records],
    }
    found = {
        part: array("I", (len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]))
        if texts
        else array("I")
        for part, texts in parts.items()
    }
    return found | {"all": array("I", map(sum, zip(*found.values(), strict=True)))}
