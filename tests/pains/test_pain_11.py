"""Pain 11, axolotl-ai-cloud/axolotl#2692, #2978, modelscope/easydistill#37: log-probs of another row than its own.

TRL stores no log-probs of a teacher, so there is no plain library to compare with.
"""

import numpy as np
import pytest
from datasets import Dataset

from hf_reason.teachers import CacheBuilder, CacheSettings, LiveTeacher, TeacherError, TopKCache
from hf_reason.teachers.cache_format import unpack_row
from hf_reason.text import encode


@pytest.fixture
def cache(tmp_path, tiny_model, tokenizer, records):
    rows = Dataset.from_list([{**encode(row, tokenizer), "id": row["id"]} for row in records[:8]])
    settings = CacheSettings("t", "t", vocab_size=len(tokenizer), top_k=8)
    teacher = LiveTeacher(tiny_model.eval(), len(tokenizer))
    builder = CacheBuilder(tmp_path / "cache", {"train": rows}, teacher, tokenizer, settings)
    builder.start()
    builder.build()
    builder.finish()
    return TopKCache(builder.folder)


def _rows(records, tokenizer):
    return Dataset.from_list([encode(row, tokenizer) for row in records]), [row["id"] for row in records]


def test_rows_are_found_by_id_and_tokens_in_any_order(cache, tokenizer, records):
    rows, names = _rows(records[:8], tokenizer)
    order = [5, 2, 7, 0, 3]
    straight = cache.link(rows, names, "train", None)
    shuffled = cache.link(rows.select(order), [names[i] for i in order], "train", None)
    for found, place in zip(shuffled, order, strict=True):
        np.testing.assert_array_equal(found["teacher_rows"], straight[place]["teacher_rows"])


@pytest.mark.parametrize("change", ["tokens", "ids exchanged", "another record"])
def test_whatever_does_not_fit_is_refused(cache, tokenizer, records, change):
    rows, names = _rows(records[:8], tokenizer)
    if change == "tokens":
        rows = rows.map(lambda row: {"input_ids": [*row["input_ids"][:-1], 3]})
    elif change == "ids exchanged":
        names = [names[1], names[0], *names[2:]]
    else:
        rows, names = _rows(records[:9], tokenizer)
    with pytest.raises(TeacherError, match="cached with other tokens|not in it"):
        cache.link(rows, names, "train", None)


@pytest.mark.parametrize("column", ["ids", "log_probs", "log_tail", "tokens", "steps"])
def test_a_row_that_a_disk_or_a_copy_has_changed_is_refused(cache, column):
    stored = dict(cache._rows[0])
    value = stored[column]
    stored[column] = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    with pytest.raises(TeacherError, match="not what was written"):
        unpack_row(stored, cache.top_k, cache.samples)
