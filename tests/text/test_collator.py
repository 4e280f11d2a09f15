"""Collation and packing keep the span columns on their tokens."""

import pytest
from datasets import Dataset
from trl.data_utils import pack_dataset

from hf_reason.text import CoTCollator, encode


def _columns(encoded: list[dict]) -> dict[tuple, int]:
    """How often each (token, label, segment, step) occurs."""
    counts: dict[tuple, int] = {}
    for row in encoded:
        for key in zip(row["input_ids"], row["labels"], row["segment_ids"], row["step_ids"], strict=True):
            counts[key] = counts.get(key, 0) + 1
    return counts


def test_padding_counts_as_prompt(tokenizer, records):
    rows = [encode(record, tokenizer) for record in records[:5]]
    batch = CoTCollator(pad_token_id=tokenizer.pad_token_id)(rows)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        for column in ("input_ids", "labels", "segment_ids", "step_ids"):
            assert batch[column][index, :length].tolist() == row[column]
        assert batch["segment_ids"][index, length:].sum() == batch["step_ids"][index, length:].sum() == 0
        assert (batch["labels"][index, length:] == -100).all()


@pytest.mark.parametrize("padding_free", [False, True])
def test_multiple_of(tokenizer, records, padding_free):
    rows = [encode(record, tokenizer) for record in records[:3]]
    batch = CoTCollator(pad_token_id=0, padding_free=padding_free, pad_to_multiple_of=64)(rows)
    assert batch["input_ids"].shape == batch["step_ids"].shape
    assert batch["input_ids"].shape[1] % 64 == 0


def test_packing_keeps_every_token_with_its_step(tokenizer, records):
    rows = [encode(record, tokenizer) for record in records]
    packed = pack_dataset(Dataset.from_list(rows), 512, "bfd")
    assert len(packed) < len(rows)
    assert _columns(list(packed)) == _columns(rows)
    batch = CoTCollator(pad_token_id=0, padding_free=True)(list(packed))
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    assert len(starts) == len(rows)
    flat = [
        {name: batch[name][0, start:stop].tolist() for name in ("input_ids", "segment_ids", "step_ids")}
        for start, stop in zip(starts, [*starts[1:], batch["input_ids"].shape[1]], strict=True)
    ]
    key = lambda row: (row["input_ids"], row["segment_ids"], row["step_ids"])  # noqa: E731
    assert sorted(map(key, flat)) == sorted(map(key, rows))


def test_a_data_set_without_spans_gives_trl_batches():
    batch = CoTCollator(pad_token_id=0)([{"input_ids": [1, 2], "labels": [1, 2]}])
    assert "step_ids" not in batch
